"""Whether a figure has changed beyond noise: the rule, which `compare` prints and README states.

1. The values of the two sides do not overlap: the largest of one is below the smallest of the other. A side with fewer
   than three values has no spread of its own; it is widened by the share that its kind is assumed to have.
2. The best values (the minima, where smaller is better) and the medians differ in the same direction, each by more than
   MARGIN.
3. A time or a rate lies outside what the machine itself has done: the ratio of the best values is beyond the ratios of
   all yardsticks that were measured beside the case, by more than MARGIN.

A count has no noise: any difference is a change. A score (an accuracy) is compared by difference, not by ratio.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.figures import LEAK, SCORE, SETTING, UNKNOWN, Figure, Kind

MARGIN = 0.05
"""Share by which the best values and the medians must differ."""
SCORE_MARGIN = 0.01
"""The same of a score, which is a share already."""
ENOUGH = 3
"""Values from which on a side's spread is its own."""

WHY = {SETTING: "it was measured in another setting", UNKNOWN: "its name does not say which way is better"}
"""Said of a change of what has no better direction."""
SAME, BETTER, WORSE, CHANGED, UNJUDGED = "within noise", "better", "WORSE", "changed", "not judged"

Drift = tuple[float, float]
"""The smallest and the largest ratio, new beside old, of what the machine does by itself."""


@dataclass(frozen=True)
class Verdict:
    """One figure, old and new."""

    name: str
    old: float
    new: float
    """Medians."""
    best: float
    """New beside old, of the best values; the same is `middle` of the medians. NaN where there is no ratio."""
    middle: float
    spreads: tuple[float, float]
    """(largest - smallest) / median of the old and the new values; NaN where there is one value."""
    word: str
    why: str = ""
    setting: bool = False
    """It is no figure but what the case was run with."""


def drift(old: Sequence[Mapping[str, Sequence[float]]], new: Sequence[Mapping[str, Sequence[float]]]) -> Drift:
    """From the yardsticks measured beside a case on both sides: {name: seconds}, before and after each run.

    1 is always within, so that a quiet machine gives nobody an advantage. Without yardsticks it is (1, 1).
    """

    def bounds(measured: Sequence[Mapping[str, Sequence[float]]], name: str) -> tuple[float, float]:
        least = [min(each[name]) for each in measured if each.get(name)]
        return (min(least), max(least)) if least else (math.nan, math.nan)

    ratios = [1.0]
    for name in {name for each in (*old, *new) for name in each}:
        (old_least, old_most), (new_least, new_most) = bounds(old, name), bounds(new, name)
        ratios += [ratio for ratio in (new_least / old_most, new_most / old_least) if not math.isnan(ratio)]
    return min(ratios), max(ratios)


def judged(old: Figure, new: Figure, machine_drift: Drift = (1.0, 1.0), obstacle: str = "") -> Verdict:
    """Compare one figure. `obstacle` says why times and rates cannot be compared; "" if they can."""
    kind = new.kind
    medians = statistics.median(old.values), statistics.median(new.values)
    pick = max if kind.better == "larger" else min
    best, middle = ratio(pick(old.values), pick(new.values)), ratio(*medians)
    spreads = spread(old.values), spread(new.values)

    def verdict(word: str, why: str = "") -> Verdict:
        return Verdict(old.name, *medians, best, middle, spreads, word, why, kind is SETTING)

    if not all(map(math.isfinite, old.values)):
        return verdict(UNJUDGED, "the old one is no number")
    if not all(map(math.isfinite, new.values)):
        return verdict(WORSE if kind.better else CHANGED, "it is no number any more")
    grew = meaning(kind, larger=True), meaning(kind, larger=False)
    if kind.spread == 0:
        return verdict(
            SAME if medians[0] == medians[1] else grew[0] if medians[1] > medians[0] else grew[1], WHY.get(kind, "")
        )
    if kind.timed and obstacle:
        return verdict(UNJUDGED, obstacle)
    few = "" if min(len(old.values), len(new.values)) >= ENOUGH else f"few values: {_assumed(kind)} assumed"
    lower, upper = span(old), span(new)
    if not (upper[0] > lower[1] or upper[1] < lower[0]):
        return verdict(SAME, few)
    direction = 1 if upper[0] > lower[1] else -1
    if not _moved(kind, pick(old.values), pick(new.values), direction) or not _moved(kind, *medians, direction):
        return verdict(SAME, few or f"less than {MARGIN:.0%} apart")
    if kind.timed:
        slower = machine_drift if kind.better == "smaller" else (1 / machine_drift[1], 1 / machine_drift[0])
        if slower[0] / (1 + MARGIN) <= best <= slower[1] * (1 + MARGIN):
            return verdict(SAME, f"the machine itself: x {slower[0]:.2f} to {slower[1]:.2f}")
    return verdict(grew[0] if direction > 0 else grew[1], WHY.get(kind, few))


def span(figure: Figure) -> tuple[float, float]:
    """The smallest and largest value, widened where there are too few to know."""
    least, most, kind = min(figure.values), max(figure.values), figure.kind
    if len(figure.values) >= ENOUGH:
        return least, most
    if kind in (SCORE, LEAK):
        return least - kind.spread, most + kind.spread
    return least - kind.spread * abs(least), most + kind.spread * abs(most)


def meaning(kind: Kind, larger: bool) -> str:
    """What it means that a figure has grown, or shrunk."""
    if not kind.better:
        return CHANGED
    return BETTER if (kind.better == "larger") == larger else WORSE


def ratio(old: float, new: float) -> float:
    """New beside old; 1 where they are equal, NaN where only the old one is 0."""
    return 1.0 if new == old else new / old if old else math.nan


def spread(values: Sequence[float]) -> float:
    """How far they lie apart, as a share of their median."""
    middle = statistics.median(values)
    return (max(values) - min(values)) / abs(middle) if len(values) > 1 and middle else math.nan


def _moved(kind: Kind, old: float, new: float, direction: int) -> bool:
    least = SCORE_MARGIN if kind in (SCORE, LEAK) else MARGIN * abs(old)
    return direction * (new - old) > least


def _assumed(kind: Kind) -> str:
    return f"± {kind.spread:g}" if kind in (SCORE, LEAK) else f"± {kind.spread:.0%}"
