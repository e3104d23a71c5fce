"""The one exception for what a user can cause and a user can mend, and how any exception is told in a line."""

import re
import sys
import traceback
from pathlib import Path


class UserError(Exception):
    """Bad input, said in one line: what is wrong and what to do. Commands print it to stderr and exit with status 2."""

    status = 2


class RunFailed(UserError):
    """A run that started and could not be finished, such as a round without enough answers. Exit status 3."""

    status = 3


LONGEST = 500
"""Characters of a line that tells words from elsewhere: an exception's text, or what another process says."""

_TAIL = 95
"""Of these, the characters kept of the end of a longer text: there our own lines say what to do."""


def one_line(text: str) -> str:
    """Any text as one line of at most LONGEST printable characters; of a longer one, its beginning and its end.

    What is not printable (control and escape sequences, line ends, marks that reverse the reading direction, halves of
    characters) becomes a space, so that no text can draw on a terminal or begin a line of its own in a log.
    """
    if len(text) > 12 * LONGEST:  # megabytes need not be looked at
        text = f"{text[: 6 * LONGEST]} ... {text[-6 * LONGEST :]}"
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - _TAIL - 5]} ... {line[-_TAIL:]}"


def describe(error: BaseException) -> str:
    """An exception in one line, with the place it came from unless it is meant for the user."""
    if isinstance(error, UserError):
        return " ".join(str(error).encode(errors="replace").decode().split())
    return f"{type(error).__name__}: {reason_of(error)[:LONGEST]}{_place(error)}"


def reason_of(error: BaseException) -> str:
    """What an exception says, in one line; of TensorFlow's and Keras' pages, the sentences that name the fault.

    Those pages begin with the stack frames that defined a graph's node, or with "Exception encountered when calling",
    and end with the arguments that a layer received: cut to a line as they stand, they say nothing.
    """
    calls = _CALLED.findall(_text(error))
    line = " ".join(" ".join(sentences_of(error)).split())
    return f"{line[: LONGEST - 50]} (in {calls[-1]})" if calls else line


def sentences_of(error: BaseException) -> list[str]:
    """The lines of which `reason_of` makes one; its type's name where it says nothing."""
    text, own = _text(error), f"{type(error).__name__}: "
    cleaned = (_WRAPPING.sub("", line).strip().removeprefix(own) for line in _sentences(_CALLED.sub("", text)))
    return list(dict.fromkeys(filter(None, cleaned))) or text.split("\n") * bool(text) or [type(error).__name__]


def _text(error: BaseException) -> str:
    return _COLOUR.sub("", str(error).encode(errors="replace").decode()).strip()


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CALLED = re.compile(r"^Exception encountered when calling (\S+\(\))\.?$", re.MULTILINE)
"""Keras' heading; of layers within layers, the last is the innermost."""
_FRAME = re.compile(r'\s*File "[^"]*", line \d+')
_HEADING = re.compile(
    r"Graph execution error:|Detected at node|in user code:|Traceback \(most recent call last\)|Stack trace for op "
    r"definition|\[\[[\w/{} -]*\]\]|Hint: |\d+ root error\(s\) found|\d+ (successful operations|derived errors)|"
    r"tf2xla conversion failed|Could not automatically infer the output shape"
)
"""Beginnings of lines that say where, and not what."""
_WRAPPING = re.compile(
    r"\{\{function_node [^}]*\}\}\s*|\[Op:\w+\]( name:.*)?|^\(\d+\) [A-Z_]+:\s*|\[\[\{\{node .*?\}\}\]\]"
)
"""What TensorFlow puts around a sentence."""


def _sentences(text: str) -> list[str]:
    """The lines that are not frames, their source, headings, or the arguments a layer received."""
    kept, in_frame = [], False
    for line in text.splitlines():
        if line.startswith(("Arguments received by", "  (1) ")):  # the second root error is the first once more
            break
        if _FRAME.match(line):
            in_frame = True
        elif not line.strip():
            in_frame = False
        elif not in_frame and not _HEADING.match(line.strip()):
            kept.append(line.strip())
    return kept


def _place(error: BaseException) -> str:
    """The innermost frame that is not TensorFlow's or Keras' own; theirs are the same for every fault."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not {"tensorflow", "keras"} & {*Path(frame.filename).parts}]
    frame = (own or frames or [None])[-1]
    return f" ({Path(frame.filename).name}:{frame.lineno})" if frame else ""


def complain(program: str, error: UserError) -> int:
    """Print `error` as one line on stderr and return the exit status."""
    print(f"{program}: {one_line(str(error))}", file=sys.stderr, flush=True)
    return error.status
