"""What a comparison's pictures draw: figures by round and by client, over seeds."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from fedkeras.compare.arm_run import ArmResult, CurvePoint

CURVES = {"accuracy": "Accuracy on the central test set", "loss": "Loss on the central test set"}
"""Metric -> the picture's title."""

Values = dict[str, dict[str, list[float]]]
"""Arm -> {cid: its figure with each seed}."""


class Band(NamedTuple):
    """An arm's curve: means over seeds by round, and from the lowest to the highest, of local over clients too."""

    rounds: list[int]
    means: list[float]
    lows: list[float]
    highs: list[float]


def measured(results: Sequence[ArmResult]) -> list[str]:
    """The metrics that some round of some arm has."""
    return [name for name in CURVES if any(point[name] is not None for one in results for point in one.curve)]


def bands(results: Sequence[ArmResult], metric: str) -> dict[str, Band]:
    """By arm, in their order; empty for an arm that has none of it."""
    found = {}
    for arm in dict.fromkeys(result.arm for result in results):
        by_round: dict[int, list[CurvePoint]] = {}
        for result in results:
            for point in result.curve if result.arm == arm else ():
                if point[metric] is not None:
                    by_round.setdefault(point["round"], []).append(point)
        rounds = sorted(by_round)
        low, high = ("lowest", "highest") if metric == "accuracy" else (metric, metric)
        found[arm] = Band(
            rounds,
            [statistics.fmean(point[metric] for point in by_round[number]) for number in rounds],
            [min(point.get(low, point[metric]) for point in by_round[number]) for number in rounds],
            [max(point.get(high, point[metric]) for point in by_round[number]) for number in rounds],
        )
    return found


def by_client(results: Sequence[ArmResult], what: str) -> Values:
    """The arms that have figures by client: `what` is own (held-out examples) or central (each client's own model)."""
    found: Values = {}
    for result in results:
        for cid, value in getattr(result, what).items():
            found.setdefault(result.arm, {}).setdefault(cid, []).append(value)
    return found


def clients_of(values: Values) -> list[str]:
    """All clients, ascending."""
    return sorted({cid for own in values.values() for cid in own}, key=int)


def ranked(results: Sequence[ArmResult], what: str) -> dict[str, list[float]]:
    """By arm the clients' figures from the lowest to the highest, each place's mean over seeds."""
    found: dict[str, list[list[float]]] = {}
    for result in results:
        if values := getattr(result, what):
            found.setdefault(result.arm, []).append(sorted(values.values()))
    return {arm: [statistics.fmean(place) for place in zip(*ordered, strict=False)] for arm, ordered in found.items()}


def single_models(results: Sequence[ArmResult]) -> dict[str, float]:
    """Of arms with one model its accuracy on the central test set, mean over seeds."""
    found: dict[str, list[float | None]] = {}
    for result in results:
        if not result.central:
            found.setdefault(result.arm, []).append(result.accuracy)
    return {arm: statistics.fmean(values) for arm, values in found.items() if None not in values}
