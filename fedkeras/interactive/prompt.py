"""A line from the person at the terminal: with the keys of a shell where Python has readline, checked in any case."""

import getpass
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from fedkeras.errors import UserError
from fedkeras.interactive.answer_history import AnswerHistory
from fedkeras.interactive.choices import plain

try:
    import readline
except ImportError:  # Windows, whose console edits lines by itself
    readline = None

BACK = "back"
WIDTH = 79


class GoBack(Exception):
    """The person asks for the question before."""


def folded(text: str, before: str = "") -> str:
    """Words as a terminal of 80 columns shows them well, each line with `before` before it."""
    return textwrap.fill(text, WIDTH, initial_indent=before, subsequent_indent=before)


class Prompt:
    """Asks for lines. `line` and `hidden` raise GoBack, KeyboardInterrupt for Ctrl-D, UserError where nobody is."""

    def __init__(self, history: AnswerHistory) -> None:
        self._history = history
        self._words: Sequence[str] = ()
        self._paths = False
        self._found: list[str] = []
        if readline is not None:
            # libedit, which stands in for readline on macOS, has commands of its own
            libedit = "libedit" in (readline.__doc__ or "")
            readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
            readline.set_auto_history(False)
            readline.set_completer_delims("")
            readline.set_completer(self._complete)

    def line(self, text: str, question: str = "", words: Sequence[str] = (), paths: bool = False) -> str:
        """An answer without blanks around it. Tab completes `words`, and `paths`; arrow keys bring back what was
        answered to `question` before."""
        self._words, self._paths = words, paths
        if readline is not None:
            readline.clear_history()
            for answer in self._history.of(question):
                readline.add_history(answer)
        while True:
            try:
                answer = input(text).strip()
            except EOFError:
                raise _end() from None
            if _said(answer):
                return _not_back(answer)

    def hidden(self, text: str) -> str:
        """An answer that is not shown; blanks around it stay."""
        while True:
            try:
                answer = getpass.getpass(text)
            except EOFError:
                raise _end() from None
            if _said(answer):
                return _not_back(answer)

    def remember(self, question: str, answer: str) -> None:
        """Offer this answer again next time."""
        self._history.add(question, answer)

    def _complete(self, text: str, state: int) -> str | None:
        """readline's protocol: the completion of this number, or None."""
        if state == 0:
            self._found = [word for word in self._words if word.startswith(text)]
            if self._paths:
                self._found += _paths(text)
        return self._found[state] if state < len(self._found) else None


def _paths(begun: str) -> list[str]:
    """What lies there, as it would be typed on; a folder with the slash behind it."""
    folder, slash, name = begun.rpartition("/")
    place = Path(f"{folder}{slash}" or ".").expanduser()
    if not place.is_dir():
        return []
    found = sorted(path for path in place.iterdir() if path.name.startswith(name))
    return [f"{folder}{slash}{path.name}{'/' * path.is_dir()}" for path in found]


def _not_back(answer: str) -> str:
    if plain(answer) == BACK:
        raise GoBack
    return answer


def _said(answer: str) -> bool:
    """Whether it is text. Where nothing edits lines, an arrow key arrives as an escape code, which nobody meant."""
    if answer.isprintable():
        return True
    print("  that has keys in it that are no characters (an arrow key?): type it again")
    return False


def _end() -> BaseException:
    """What an end of the input means: Ctrl-D, or that there is no terminal."""
    if sys.stdin.isatty():
        print()
        return KeyboardInterrupt("Ctrl-D: nothing was started")
    return UserError("--interactive needs somebody at a terminal who answers")
