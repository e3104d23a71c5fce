"""What a sweep searches: fields of Config, each with a range or choices.

    SEARCH = FIELD=VALUES,FIELD=VALUES,...    VALUES = A..B  or  log:A..B  or  A/B/C

A range of a whole-number field gives whole numbers, both ends included. `log:` spreads the trials evenly over orders
of magnitude, as a learning rate needs it.
"""

import math
from dataclasses import dataclass

from fedkeras.config import Config, Value
from fedkeras.errors import UserError

SEARCHED = (
    "strategy", "learning_rate", "optimizer", "batch_size", "local_epochs", "proximal_mu", "fraction_train",
)  # fmt: skip
"""What may be searched: what changes the training, and neither the data, the seed nor where things are."""


@dataclass(frozen=True)
class Alternatives:
    """One of several values."""

    values: tuple[Value, ...]


@dataclass(frozen=True)
class Range:
    """Any number from `low` to `high`, both included; whole ones if both are int; `log`: even in its logarithm."""

    low: int | float
    high: int | float
    log: bool = False


Space = dict[str, Alternatives | Range]
"""By field of Config, in snake case."""


def parse_search(text: str) -> Space:
    """What --search asks for. Raises UserError."""
    space: Space = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, values = (word.strip() for word in part.partition("="))
        field = name.replace("-", "_")
        if not equals or not values:
            raise UserError(f"--search {part}: write FIELD=A..B, FIELD=log:A..B or FIELD=A/B/C")
        if field not in SEARCHED:
            allowed = ", ".join(one.replace("_", "-") for one in SEARCHED)
            raise UserError(f"--search {name} cannot be searched; one of {allowed} can")
        if field in space:
            raise UserError(f"--search names {name} twice")
        kind = type(getattr(Config(), field))
        space[field] = _range(part, values, kind) if ".." in values else _choices(part, values, kind)
    if not space:
        raise UserError("--search is empty: name a field, such as learning-rate=log:1e-3..1")
    return space


def _choices(part: str, values: str, kind: type[Value]) -> Alternatives:
    found = tuple(_value(part, word, kind) for word in values.split("/"))
    if len(set(found)) < len(found):
        raise UserError(f"--search {part} names a value twice")
    return Alternatives(found)


def _range(part: str, values: str, kind: type[Value]) -> Range:
    if kind not in (int, float):
        raise UserError(f"--search {part}: only a number has a range; write its values as A/B/C")
    log = values.startswith("log:")
    low, high = (_value(part, word, kind) for word in values.removeprefix("log:").split("..", 1))
    if not low < high:
        raise UserError(f"--search {part} is an empty range: the lower end comes first")
    if log and low <= 0:
        raise UserError(f"--search {part}: a logarithmic range begins above 0")
    return Range(low, high, log)


def _value(part: str, word: str, kind: type[Value]) -> Value:
    try:
        value = kind(word.strip())
    except ValueError:
        value = None
    if value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)):
        what = {int: "a whole number", float: "a number"}.get(kind, "a name")
        raise UserError(f"--search {part}: '{word}' is not {what}")
    return value
