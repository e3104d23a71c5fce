"""Command lines: any dataclass of settings, read by tyro, with its help in groups and its errors in one line.

tyro shows the fields of a nested dataclass as a group of their own. So a dataclass of flags, which is flat, is turned
into one with a dataclass a group, which is parsed and laid flat again.
"""

import ast
import contextlib
import dataclasses
import functools
import inspect
import io
import itertools
import os
import re
import sys
import textwrap
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fedkeras.errors import UserError
from fedkeras.fields import FlagGroup, checked, flag, hints_of, read_value, setting_of, takes

T = typing.TypeVar("T")
MOST_MEANT = 3
"""So many flags are named of those that somebody may have meant."""


@dataclass(frozen=True)
class Flag:
    """A field as it stands on the command line, with the dataclass that owns it."""

    owner: type
    field: dataclasses.Field
    default: Any
    hidden: bool

    @property
    def name(self) -> str:
        """The field's name."""
        return self.field.name

    @property
    def group(self) -> FlagGroup:
        """The group it is shown in."""
        return setting_of(self.field).group

    @property
    def hint(self) -> Any:  # noqa: ANN401 - a type, as typing writes it
        """Its type, bounds and marks of tyro's among it."""
        return hints_of(self.owner)[self.name]


def parse_flags(kind: type[T], args: Sequence[str] | None, prog: str, default: T | None = None) -> T:
    """Make a dataclass of settings from a command line (None: this process's); tyro's boxed errors become one line.

    What is not given is as in `default`, an instance; None: as the class says. A field of `kind` that is a dataclass
    itself (`fields.embedded`) brings its fields as flags. Raises UserError; `--help` prints and exits with status 0.
    """
    import tyro  # here and not above: a client under Ray never parses a command line

    words = sys.argv[1:] if args is None else list(args)
    flags = list(_flags(kind, default))
    shows = any(map(_shows_flags, words))
    shown = [one for one in flags if not (shows and one.hidden)]
    box = io.StringIO()
    # tyro draws its boxes as stdout can show them, and in its colours: what is read below is always drawn in one way
    plain = contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), "utf-8"))
    try:
        with contextlib.redirect_stderr(box), contextlib.nullcontext() if shows else plain:
            nested = tyro.cli(_form(shown), prog=prog, args=words, description=inspect.getdoc(kind))
    except BrokenPipeError:  # `--help | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains again when it ends
        raise SystemExit(0) from None
    except SystemExit as stop:
        if not stop.code:
            raise
        _check_values(flags, words)
        known = {f"--{flag(one.name)}" for one in flags if not one.hidden}
        raise UserError(f"{_one_line(box.getvalue(), known)}; `{prog} --help` lists all flags") from None
    return _made(kind, _flat(nested), default)


def form(kind: type) -> type:
    """The dataclass that tyro gets in place of `kind`, with all of its flags that `--help` shows."""
    return _form([one for one in _flags(kind, None) if not one.hidden])


def _shows_flags(word: str) -> bool:
    """True for --help, and for tyro's --tyro-print-completion and --tyro-write-completion."""
    return word in ("-h", "--help") or word.startswith("--tyro-")


def _flags(kind: type, default: object | None, hidden: frozenset[str] = frozenset()) -> Iterator[Flag]:
    """The flags of `kind` and of the dataclasses in it."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        value = field.default if default is None else getattr(default, field.name)
        if dataclasses.is_dataclass(hints[field.name]):
            inner = None if default is None else value
            yield from _flags(hints[field.name], inner, setting_of(field).hidden)
        else:
            yield Flag(kind, field, value, field.name in hidden)


def _form(flags: Sequence[Flag]) -> type:
    """A dataclass with a dataclass for each group: what tyro makes boxes of."""
    import tyro

    groups: dict[FlagGroup, list[Flag]] = {}
    for one in flags:
        groups.setdefault(one.group, []).append(one)
    columns = []
    for number, (group, members) in enumerate(groups.items()):
        own = [_column(one) for one in members]
        if not group.name:  # no box of its own: these stand beside --help, and positional arguments do in any case
            columns += own
            continue
        box = dataclasses.make_dataclass(f"Group{number}", own, kw_only=True)
        columns.append((f"group_{number}", Annotated[box, tyro.conf.arg(name=group.name, help=group.purpose)]))
    return dataclasses.make_dataclass("Flags", columns, kw_only=True)


def _column(one: Flag) -> tuple[str, Any, Any]:
    """A field of tyro's form, with the text, the choices and the default that `--help` shows."""
    import tyro

    metavar = None
    if typing.get_origin(one.hint) is Literal:
        metavar = "{" + ",".join(filter(None, typing.get_args(one.hint))) + "}"
    hint = {dataclasses.MISSING: "(required)", "": "(default: unset)", (): "(default: unset)"}.get(one.default)
    text, names = documentation(one.owner)[one.name], setting_of(one.field).names
    if names:
        text = f"{text} Names: {', '.join(names)}."
    shown = tyro.conf.arg(prefix_name=False, help=text, metavar=metavar, help_behavior_hint=hint)
    # --allow A --allow B: a flag of several texts is given once for each
    kind = tyro.conf.UseAppendAction[one.hint] if one.hint == tuple[str, ...] else one.hint
    return one.name, Annotated[kind, shown], dataclasses.field(default=one.default)


@functools.cache
def documentation(kind: type) -> Mapping[str, str]:
    """The text below each field of a dataclass, in one line. Empty where the source is not at hand."""
    try:
        [body] = [node.body for node in ast.parse(textwrap.dedent(inspect.getsource(kind))).body]
    except OSError:
        body = []
    texts = {field.name: "" for field in dataclasses.fields(kind)}
    for above, below in itertools.pairwise(body):
        if isinstance(above, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            texts[above.target.id] = " ".join(str(below.value.value).split())
    return texts


def _flat(nested: object) -> dict[str, Any]:
    """The values of tyro's form, by the names of the flags."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(nested):
        value = getattr(nested, field.name)
        values |= _flat(value) if dataclasses.is_dataclass(value) else {field.name: value}
    return values


def _made(kind: type[T], values: Mapping[str, Any], default: T | None) -> T:
    """`kind` with these values, and the dataclasses in it."""
    hints, given = typing.get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        inner = hints[field.name]
        if dataclasses.is_dataclass(inner):
            given[field.name] = _made(inner, values, None if default is None else getattr(default, field.name))
        else:
            value, simple = values[field.name], takes(kind, field.name) is not None
            given[field.name] = checked(kind, field.name, value) if simple else value
    return kind(**given)


def _check_values(flags: Sequence[Flag], words: Sequence[str]) -> None:
    """Raise UserError for the first flag whose value the run configuration would refuse too, in the same words."""
    owners = {one.name: one.owner for one in flags if takes(one.owner, one.name) is not None}
    for word, following in itertools.pairwise([*words, "--"]):
        typed, equals, value = word.partition("=")
        name, value = typed.removeprefix("--").replace("-", "_"), value if equals else following
        if not typed.startswith("--") or name not in owners or (value.startswith("--") and not equals):
            continue
        if type(read_value(owners[name], name, value)) is bool:
            raise UserError(f"--{flag(name)} takes no value: write --{flag(name)} or --no-{flag(name)}")


def _one_line(box: str, known: Collection[str]) -> str:
    """What a box of tyro's says: its first part, and those of the `known` flags that may have been meant."""
    lines = [line.strip("│ ") for line in box.splitlines()[1:]]
    first = list(itertools.takewhile(lambda line: not set(line) <= {*"─╰╯"}, lines))
    similar: dict[str, list[str]] = {}
    for line in lines[len(first) :]:
        if line.startswith(("Perhaps you meant", "Arguments similar to")):
            found = similar.setdefault(line, [])
        elif line.startswith("--") and similar:
            found += {re.split(r"[ ,]", line)[0]} & {*known}
    meant = dict.fromkeys(name for line in sorted(similar) for name in similar[line][:MOST_MEANT])
    return " ".join(first).rstrip(".") + (f". Perhaps you meant {' or '.join(meant)}" if meant else "")
