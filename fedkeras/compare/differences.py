"""Which of two arms is better, judged by the differences that they have with the same seeds.

With the same seed two arms have the same partition, initial weights and test set, so what is judged is the difference
of a pair, and not how far an arm's figures lie apart: the mean difference and its 95 % interval by Student's t, from
the sample deviation of the differences ("The probable error of a mean", Biometrika 6, 1908). A choice among several
comparisons finds a difference by chance more often than one comparison does; so all intervals of a comparison hold
together with 95 %, each being as wide as Bonferroni's inequality asks for their number (Dunn, "Multiple comparisons
among means", JASA 56, 1961). Holm's steps would find a little more, but there is no interval that says the same.

`compared_pairs` are exactly those that the words, the table and the picture speak of.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np

from fedkeras.compare.arm_run import ArmResult, common_clients
from fedkeras.compare.arms import SOLO

CONFIDENCE = 0.95
"""Of all intervals of a comparison together."""
ROUNDING = 1e-6
"""Figures come in single precision: what differs by less than this share of them is rounding."""
MOST_PLACES = 6


@dataclass(frozen=True)
class PairedDifference:
    """By how much `arm` is better than `other`: higher in accuracy (a share, not points), or lower in loss.

    `values` has a difference for each of `seeds`. `low` and `high` are the interval's ends; None where there is none:
    with one pair, or where all values are equal and nothing is known of the steps in which they could differ.
    """

    arm: str
    other: str
    metric: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    low: float | None
    high: float | None

    @property
    def mean(self) -> float:
        """Over the pairs."""
        return math.fsum(self.values) / len(self.values)

    @property
    def shown(self) -> bool:
        """Whether the interval excludes that there is no difference."""
        return self.low is not None and (self.low > 0 or self.high < 0)

    @property
    def identical(self) -> bool:
        """Whether the arms have the same figure with each seed."""
        return not any(self.values)

    def texts(self) -> tuple[str, ...]:
        """Mean, and if there is an interval its ends, all to as many places as their size needs.

        Accuracy is given in points, hundredths. What is not zero is not shown as zero.
        """
        scale, places = (100, 1) if is_share(self.metric) else (1, 2)
        ends = () if self.low is None else (self.low, self.high)
        numbers = [0.0 if abs(value) < ROUNDING**2 else scale * value for value in (self.mean, *ends)]
        largest = max(map(abs, numbers))
        if largest:
            places = max(1, places - math.floor(math.log10(largest)))
        while places < MOST_PLACES and any(number and not float(f"{number:.{places}f}") for number in numbers):
            places += 1
        return tuple(f"{number:.{places}f}" for number in numbers)

    def mirrored(self) -> "PairedDifference":
        """By how much `other` is better than `arm`."""
        ends = (None, None) if self.low is None else (-self.high, -self.low)
        return PairedDifference(self.other, self.arm, self.metric, self.seeds, tuple(-v for v in self.values), *ends)


def compared_pairs(kinds: Mapping[str, str]) -> list[tuple[str, str]]:
    """Which arms are compared, by {arm: its kind}: those trained together with each other and with each baseline.

    The baselines are compared with each other only where there is nothing else.
    """
    together = [arm for arm, kind in kinds.items() if kind not in SOLO]
    alone = [arm for arm, kind in kinds.items() if kind in SOLO]
    found = [(arm, other) for arm in together for other in alone] + [*combinations(together, 2)]
    return found if together else [*combinations(alone, 2)]


OWN = "own accuracy"
"""On what the clients hold out, each with the model that the arm gives it: of clients that every arm has tested."""


def is_share(metric: str) -> bool:
    """Whether it is an accuracy, of which more is better, and which is told in points."""
    return metric != "loss"


def metric_of(results: Sequence[ArmResult]) -> str:
    """What is compared: accuracy, and only where no model has any, loss.

    As soon as clients of one arm have models of their own, that on what they hold out.
    """
    if any(result.personal and result.own_accuracy is not None for result in results):
        return OWN
    return "accuracy" if any(result.accuracy is not None for result in results) else "loss"


def figures_of(results: Sequence[ArmResult]) -> dict[str, dict[int, float]]:
    """{arm: {seed: its figure of the compared metric}}, without those that are missing or no number.

    A model whose loss is no number has diverged, and what it happens to guess right is no accuracy.
    """
    metric, clients = metric_of(results), common_clients(results)
    found: dict[str, dict[int, float]] = {result.arm: {} for result in results}
    for result in results:
        value = result.own_accuracy_of(clients.get(result.seed, ())) if metric == OWN else getattr(result, metric)
        needed = (value,) if metric == OWN and result.personal else (value, result.loss)
        if all(figure is not None and math.isfinite(figure) for figure in needed):
            found[result.arm][result.seed] = value
    return found


def paired_differences(results: Sequence[ArmResult]) -> list[PairedDifference]:
    """Each of the compared pairs that share a seed, over the seeds for which both have a figure."""
    metric, figures = metric_of(results), figures_of(results)
    shared = {
        (arm, other): sorted(figures[arm].keys() & figures[other].keys())
        for arm, other in compared_pairs({result.arm: result.kind for result in results})
    }
    comparisons = sum(len(seeds) > 1 for seeds in shared.values())
    step = _step(results, metric) if is_share(metric) else None
    found = []
    for (arm, other), seeds in shared.items():
        if seeds:
            pairs = [(figures[arm][seed], figures[other][seed]) for seed in seeds]
            values = tuple(one - two if is_share(metric) else two - one for one, two in pairs)
            rounding = ROUNDING * max(abs(figure) for pair in pairs for figure in pair)
            ends = [float(end) for end in intervals(np.array(values), comparisons, step, rounding)]
            if is_share(metric):
                ends = [min(max(end, -1.0), 1.0) for end in ends]  # no two accuracies lie further apart
            low, high = (None if math.isnan(end) else end for end in ends)
            found.append(PairedDifference(arm, other, metric, tuple(seeds), values, low, high))
    return found


def intervals(
    values: np.ndarray, comparisons: int = 1, step: float | None = None, rounding: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """The intervals of mean paired differences, each one of so many `comparisons` whose intervals hold together.

    `values`: (..., pairs); the ends have its shape without the last axis, and are NaN where there is no interval.
    `step`: the smallest difference that two figures can have, such as 1 / examples of the test set. The deviation is
    taken to be a step at least: two or three equal differences are no certainty, but the coarseness of what was
    counted (without it two seeds would find a difference where there is none in up to 13 % of cases and not 5). Where
    the step is not known, differences that are equal but for `rounding` have no interval; nor has a single one.
    """
    count = values.shape[-1]
    mean = values.mean(axis=-1)
    if count < 2:
        return np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    deviation = values.std(axis=-1, ddof=1)
    deviation = np.where(deviation > rounding, deviation, np.nan) if step is None else np.maximum(deviation, step)
    half = _quantile(count - 1, comparisons) * deviation / math.sqrt(count)
    return mean - half, mean + half


@lru_cache(maxsize=256)
def _quantile(freedom: int, comparisons: int) -> float:
    """Student's t: what its absolute value stays below with a probability of 1 - 0.05 / comparisons."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 1 - (1 - CONFIDENCE) / (2 * comparisons)))


def _step(results: Sequence[ArmResult], metric: str) -> float | None:
    """An example's share of the central test set, or of all that is held out; None where no result says how many."""
    counts = [sum(one.own_examples.values()) if metric == OWN else one.test_examples for one in results]
    sizes = [count for count in counts if count]
    return 1 / min(sizes) if sizes else None
