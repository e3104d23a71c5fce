"""The figures of a benchmark's JSON: flat names, the values of their blocks, and which way is better.

A figure's name is its path, such as `spawn.seconds`. A list of objects is a table: each row is named by its first
field. A list of numbers is one figure, measured so many times. `blocks` beside figures holds what they are medians of.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

from benchmarks.blocks import BLOCKS_KEY


@dataclass(frozen=True)
class Kind:
    """What sort of number it is."""

    word: str
    better: str
    """`smaller`, `larger`, or "" where neither is better."""

    spread: float
    """Assumed where there are fewer than three values: a share of the value, or of one for a score. 0: it is exact."""

    timed: bool = False
    """It depends on how fast the machine was just then."""


TIME = Kind("time", "smaller", 0.25, timed=True)
RATE = Kind("rate", "larger", 0.25, timed=True)
RATIO = Kind("ratio", "smaller", 0.25)
GAIN = Kind("gain", "larger", 0.25)
MEMORY = Kind("memory", "smaller", 0.10)
TRAFFIC = Kind("traffic", "smaller", 0.01)
SCORE = Kind("score", "larger", 0.02)
LEAK = Kind("leak", "smaller", 0.02)
LOSS = Kind("loss", "smaller", 0.02)
COUNT = Kind("count", "smaller", 0.0)
SURVIVED = Kind("survived", "larger", 0.0)
SETTING = Kind("setting", "", 0.0)
SPREAD = Kind("spread", "", 0.0)
"""Says how far values lie apart: the blocks say it too, and it is not compared."""
UNKNOWN = Kind("unknown", "", 0.25)

KINDS = (
    (r"(min|max|pages|least|most|slowest_.*|.*_(least|most))", SPREAD),
    (r"(rounds|rounds_asked|tries|clients|examples|seeds|epochs|batch_size|learning_rate|in_flight)", SETTING),
    (r"(epsilon|delta|noise|neighbours|degree|threshold|bits|max_dropout|skip_table)", SETTING),
    (r"(held|survived|answered)", SURVIVED),
    (r"(fell|.*_files|.*_returns|failures|simulated|trainings)", COUNT),
    (r".*_(mb_s|a_second)", RATE),
    (
        r"((.*_)?seconds(_.*)?|.*_s_per_mb|.*_ms|.*_s|first_round|clients_\w+|tracing|work|advertise|share|mask|unmask|sum)",
        TIME,
    ),
    (r"(up|down|(up|down)_mb|.*_bytes|.*_kb|megabytes|elements)", TRAFFIC),
    (r"(.*_mb|.*_models)", MEMORY),
    (r"((.*_)?ratio|.*_share|times_.*|by_layers|each_alone)", RATIO),
    (r"(.*_)?gain", GAIN),
    (r"((.*_)?accurac(y|ies)|ours_(best|last))", SCORE),
    (r"(explained|correlation)", LEAK),
    (r"(.*_)?loss", LOSS),
)
"""By the last part of the name that one fits. Where none does, nobody knows what is better, and that is said."""


@dataclass(frozen=True)
class Figure:
    """One figure of one case, with all its values: of blocks, of seeds, of several runs."""

    name: str
    values: tuple[float, ...]

    @property
    def kind(self) -> Kind:
        """By its name."""
        for part in reversed(self.name.split(".")):  # `accuracies.mnist.float32` has its kind from what it is of
            for pattern, kind in KINDS:
                if re.fullmatch(pattern, part):
                    return kind
        return UNKNOWN


def figures_of(runs: Sequence[object]) -> dict[str, Figure]:
    """All figures of a case by name; what several runs have measured is put together."""
    values: dict[str, list[float]] = {}
    for run in runs:
        for name, found in _flat(run, ""):
            values.setdefault(name, []).extend(found)
    return {name: Figure(name, tuple(found)) for name, found in values.items()}


def _flat(node: object, name: str) -> Iterator[tuple[str, list[float]]]:
    if isinstance(node, Mapping):
        # What has blocks is their values, and not the median that stands beside them
        for key, value in {**node, **node.get(BLOCKS_KEY, {})}.items():
            if key != BLOCKS_KEY:
                yield from _flat(value, _path(name, str(key)))
    elif isinstance(node, list) and node and all(isinstance(row, Mapping) for row in node):
        labels, seen = [_label(row) for row in node], Counter()
        for label, row in zip(labels, node, strict=True):
            seen[label] += 1
            row_name = label if labels.count(label) == 1 else f"{label}#{seen[label]}"
            yield from _flat(dict(list(row.items())[1:]), _path(name, row_name))
    elif isinstance(node, list) and node and all(_number(value) for value in node):
        yield name, [float(value) for value in node]
    elif _number(node):
        yield name, [float(node)]


def _label(row: Mapping[str, object]) -> str:
    """A row's name: its first field, with that field's name where it is a number."""
    key, value = next(iter(row.items()), ("", ""))
    return f"{key}={value:g}" if isinstance(value, Real) else str(value)


def _path(name: str, part: str) -> str:
    """A name with one part more; dots part names, and a part has none."""
    part = part.replace(".", "·")
    return f"{name}.{part}" if name else part


def _number(value: object) -> bool:
    return isinstance(value, Real)  # True and False are 1 and 0
