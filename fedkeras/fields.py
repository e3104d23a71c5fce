"""What a field of a configuration says of itself: the values it takes, the group it is shown in, where it matters.

`Config`, client.py's flags and those of the commands are dataclasses whose fields are made by `setting`. Whoever needs
a list of fields (what clients are told, what may change when a run goes on, what a command shows) asks for it by these
properties, so that no list is kept by hand beside the class.
"""

import contextlib
import dataclasses
import functools
import typing
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal

from fedkeras.errors import UserError

T = typing.TypeVar("T")
Value = bool | int | float | str
"""What a field holds; Flower's run configuration takes nothing else."""

REQUIRED = dataclasses.MISSING
"""In place of a default: the flag must be given."""

ANY = "*"
"""Any workflow, or any strategy: for `Setting.has`."""


@dataclass(frozen=True)
class Bounds:
    """Allowed range of a number; `above` is exclusive, `low` and `high` are inclusive."""

    low: float | None = None
    high: float | None = None
    above: float | None = None

    def __str__(self) -> str:
        words = [f"at least {self.low}"] if self.low is not None else []
        words += [f"above {self.above}"] if self.above is not None else []
        words += [f"at most {self.high}"] if self.high is not None else []
        return " and ".join(words)

    def allow(self, value: float) -> bool:
        """True if `value` lies within (a NaN never does)."""
        return (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
            and value == value
            and abs(value) != float("inf")
        )


Count = Annotated[int, Bounds(low=1)]
CountOrZero = Annotated[int, Bounds(low=0)]
Fraction = Annotated[float, Bounds(low=0.0, high=1.0)]
Positive = Annotated[float, Bounds(above=0.0)]
NonNegative = Annotated[float, Bounds(low=0.0)]
Seconds = Annotated[float, Bounds(low=0.0)]


@dataclass(frozen=True)
class FlagGroup:
    """Fields that `--help` shows together, under "NAME options" and a line of what they are for."""

    name: str
    purpose: str


OPTIONS = FlagGroup("", "")
"""The only group of a command with few flags: it has no heading of its own."""


class Scope(Enum):
    """Where a field of Config matters beside the run itself."""

    SERVER_ONLY = "clients are not told it: a path, a port or a secret of the server's machine"
    MAY_CHANGE = "it may differ when a run goes on: who waits how long, where things are; not what a round gives"
    ANY_APP = "it means something for another Flower app (--app) as well"
    ABSOLUTE = "a path that must be absolute under Flower's runtime, whose working directory is not the user's"


SERVER_ONLY, MAY_CHANGE, ANY_APP, ABSOLUTE = Scope


@dataclass(frozen=True)
class Foreign:
    """Of a field whose value may name code or a file: what a client does not take from a server without permission.

    `kind` is what `--allow` calls it; `built_in` are the values that need no permission (`built_in_names.is_one_of`).
    """

    kind: str
    built_in: tuple[str, ...]


@dataclass(frozen=True)
class Setting:
    """What a field says of itself beside its type, its default and its text."""

    group: FlagGroup = OPTIONS
    scopes: frozenset[Scope] = frozenset()
    workflows: frozenset[str] = frozenset()
    """The ways to train in which alone it has a meaning: split, collect, or server-led for any handed-out model."""
    strategy: str = ""
    """The strategy whose own option it is, by the name that --strategy takes."""
    only: str = ""
    """FIELD=VALUE: another field's value with which alone it has a meaning; of --dataset, among the built-in ones."""
    names: tuple[str, ...] = ()
    """What it may be called by, beside what people bring; `--help` lists them."""
    foreign: Foreign | None = None
    """Set where the value may name code or a file."""
    hidden: frozenset[str] = frozenset()
    """Of a field that holds a dataclass of flags: those that are read, and not shown by `--help`."""

    def has(self, scopes: Collection[Scope], group: FlagGroup | None, workflow: str, strategy: str) -> bool:
        """True if the field has all of these; None and "" stand for whatever it has, ANY for one at all."""
        return (
            self.scopes.issuperset(scopes)
            and group in (None, self.group)
            and (not workflow or workflow in self.workflows or (workflow == ANY and bool(self.workflows)))
            and (not strategy or strategy == self.strategy or (strategy == ANY and bool(self.strategy)))
        )


def setting(
    default: T,
    group: FlagGroup,
    *scopes: Scope,
    workflows: Iterable[str] = (),
    strategy: str = "",
    only: str = "",
    names: Iterable[str] = (),
    foreign: Foreign | None = None,
) -> T:
    """A dataclass's field: its default, the group it is shown in, and where it matters (see Setting)."""
    about = Setting(group, frozenset(scopes), frozenset(workflows), strategy, only, tuple(names), foreign)
    return typing.cast(T, dataclasses.field(default=default, metadata={"setting": about}))


def embedded(kind: type[T], hidden: Iterable[str] = ()) -> T:
    """A dataclass's field that holds another dataclass of flags, `kind`; they are flags of the outer one too."""
    about = Setting(hidden=frozenset(hidden))
    return typing.cast(T, dataclasses.field(default_factory=kind, metadata={"setting": about}))


def setting_of(field: dataclasses.Field) -> Setting:
    """What a field says of itself."""
    return field.metadata.get("setting", Setting())


def flag(name: str) -> str:
    """`num_server_rounds` -> `num-server-rounds`."""
    return name.replace("_", "-")


@functools.cache
def hints_of(kind: type) -> dict[str, Any]:
    """The types of a dataclass's fields, bounds among them."""
    return typing.get_type_hints(kind, include_extras=True)


_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


@dataclass(frozen=True)
class Takes:
    """What a field takes: values of a type, within bounds, or one of some choices."""

    kind: type
    bounds: Bounds | None = None
    choices: tuple[str, ...] = ()


@functools.cache
def takes(kind: type, name: str) -> Takes | None:
    """What `kind`'s field takes; None if that is no single bool, int, float or str."""
    hint, marks = hints_of(kind)[name], []
    if typing.get_origin(hint) is Annotated:
        hint, *marks = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return Takes(str, choices=typing.get_args(hint))
    return Takes(hint, next((mark for mark in marks if isinstance(mark, Bounds)), None)) if hint in _WORDS else None


def checked(kind: type, name: str, value: object) -> Value:
    """Return `value` in the type of `kind`'s field, or raise UserError naming the flag and what it takes."""
    wanted = takes(kind, name)
    if wanted is None:
        raise TypeError(f"{kind.__name__}.{name} is no single bool, int, float or str")
    if wanted.choices:
        if value not in wanted.choices:
            allowed = ", ".join(filter(None, wanted.choices))
            raise UserError(f"--{flag(name)} is '{value}'; allowed are: {allowed}")
        return value
    if wanted.kind is float and type(value) is int:
        with contextlib.suppress(OverflowError):  # more than 308 digits
            value = float(value)
    if type(value) is not wanted.kind:
        raise UserError(f"--{flag(name)} must be {_WORDS[wanted.kind]}, not '{value}'")
    if wanted.bounds is not None and not wanted.bounds.allow(value):
        raise UserError(f"--{flag(name)} must be {wanted.bounds}, not {value}")
    return value


def read_value(kind: type, name: str, text: str) -> Value:
    """The value of `kind`'s field from what somebody typed; yes and no are true and false. Raises UserError."""
    value, wanted = text, takes(kind, name)
    words = {"true": True, "yes": True, "false": False, "no": False}
    read = {bool: lambda text: words[text.lower()], int: int, float: float}.get(wanted.kind if wanted else str, str)
    with contextlib.suppress(ValueError, KeyError):
        value = read(text)
    return checked(kind, name, value)
