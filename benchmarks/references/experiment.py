"""What a reference is: an experiment's settings, what was published of each, and what is read off our own curves."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedkeras.config import Config

Point = Mapping[str, float]
"""A round's figures: `round`, `accuracy` and `loss` of the central test set, `train_loss` where it is measured."""


@dataclass(frozen=True)
class Curve:
    """The figures of one run, round after round, as far as it came."""

    seed: int
    points: Sequence[Point]
    seconds: float

    @property
    def rounds(self) -> int:
        """Rounds that are done."""
        return int(self.points[-1]["round"]) if self.points else 0

    def up_to(self, rounds: int) -> "Curve":
        """Its first rounds."""
        return replace(self, points=[point for point in self.points if point["round"] <= rounds])

    def best(self, name: str, largest: bool = True) -> float:
        """The best value of all rounds."""
        return (max if largest else min)(point[name] for point in self.points)

    def last(self, name: str) -> float:
        """The last round's value."""
        return self.points[-1][name]

    def over_last(self, name: str, rounds: int) -> float:
        """The mean of the last rounds' values."""
        return statistics.fmean(point[name] for point in self.points[-rounds:])

    def deviation_of_last(self, name: str, rounds: int) -> float:
        """How restless the last rounds are: the sample deviation of their values; 0 of a single one."""
        values = [point[name] for point in self.points[-rounds:]]
        return statistics.stdev(values) if len(values) > 1 else 0.0


@dataclass(frozen=True)
class Figures:
    """What a row of the table says of the runs of a setting: words, and the numbers behind them for the JSON."""

    best: str
    last: str
    numbers: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """One row: `config` lacks the seed and the number of rounds."""

    name: str
    config: Config
    published: str
    rounds: int
    """Of a full run."""


@dataclass(frozen=True)
class Reference:
    """One experiment of somebody else's."""

    title: str
    source: str
    """Where the published figures stand, and what of them could not be looked up."""
    differs: Sequence[str]
    """What is not as there, a sentence each."""
    settings: Sequence[Setting]
    seeds: Sequence[int]
    minutes: str
    """What a full run takes, in words."""
    figures_of: Callable[[Setting, Sequence[Curve]], Figures]
    conclusions: Callable[[Mapping[str, Sequence[Curve]]], Sequence[str]] = lambda curves: ()
    """Which of the paper's claims hold here, a sentence each; given the curves by setting."""
    data: Path | None = None
    """Folder that must be there; None: nothing is needed."""
    quick_settings: Sequence[str] = ()
    quick_rounds: int = 3


def in_common(curves: Mapping[str, Sequence[Curve]]) -> tuple[dict[str, list[Curve]], int]:
    """The settings' curves of the seeds that all of them have, as far as all of them came; and how far (0: nothing)."""
    seeds = set.intersection(*({curve.seed for curve in found} for found in curves.values())) if curves else set()
    rounds = min((curve.rounds for found in curves.values() for curve in found if curve.seed in seeds), default=0)
    alike = {name: [one.up_to(rounds) for one in found if one.seed in seeds] for name, found in curves.items()}
    return alike, rounds


def percent(values: Sequence[float]) -> str:
    """The mean of shares as percent, with the sample deviation where there are two and more."""
    return spread([100 * value for value in values])


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The mean, and the sample deviation where there are two and more."""
    text = f"{statistics.fmean(values):.{digits}f}"
    return f"{text} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else text


def accuracy_figures(setting: Setting, curves: Sequence[Curve]) -> Figures:
    """Best and last accuracy on the central test set, in percent: mean and deviation over seeds."""
    best, last = [curve.best("accuracy") for curve in curves], [curve.last("accuracy") for curve in curves]
    ten = [curve.over_last("accuracy", 10) for curve in curves]
    return Figures(percent(best), percent(last), {"best": best, "last": last, "mean_of_last_ten": ten})
