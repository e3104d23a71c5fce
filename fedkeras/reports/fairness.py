"""How far apart clients are in one metric: what stands beside a mean over clients, which hides those it fails.

The figures are those of Li, Sanjabi, Beirami, Smith: Fair Resource Allocation in Federated Learning, ICLR 2020,
https://arxiv.org/abs/1905.10497, table 1: mean, worst 10 %, variance. Each client counts once, however many examples
it has, so the mean is not the one that is weighted by examples.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from fedkeras.callbacks import Row
from fedkeras.reports.headline import figure, finite
from fedkeras.reports.history import AGGREGATES
from fedkeras.reports.run_folder import JsonTable

WORST_SHARE = 0.1


@dataclass(frozen=True)
class Fairness:
    """Of one metric over clients. `worst_tenth`: the mean of a tenth of them, rounded up, with the worst values.

    `variance` is the population's, in the metric's unit squared.
    """

    clients: int
    mean: float
    worst_tenth: float
    variance: float
    lowest: float
    highest: float

    def table(self) -> JsonTable:
        """For a JSON file, to six places."""
        return {name: round(value, 6) for name, value in asdict(self).items()}

    @property
    def points(self) -> str:
        """The variance of an accuracy in squared points (hundredths), as the paper has it."""
        return f"{1e4 * self.variance:.3g}"


def fairness(values: Iterable[float], high_is_good: bool = True) -> Fairness | None:
    """None without values. Of an accuracy the lowest are the worst, of a loss the highest."""
    ordered = sorted(values, reverse=not high_is_good)
    if not ordered:
        return None
    worst = ordered[: math.ceil(WORST_SHARE * len(ordered))]
    mean = statistics.fmean(ordered)
    return Fairness(
        clients=len(ordered),
        mean=mean,
        worst_tenth=statistics.fmean(worst),
        variance=statistics.pvariance(ordered, mean),
        lowest=min(ordered),
        highest=max(ordered),
    )


def fairness_of(clients: Mapping[str, float | None], high_is_good: bool = True) -> Fairness | None:
    """The same by client; None too where a client has no number: what is left would look better than it is."""
    values = [finite(value) for value in clients.values()]
    return None if None in values else fairness(values, high_is_good)


def last_round(rows: Iterable[Row], metric: str = "accuracy") -> Fairness | None:
    """Over the clients that were tested in the last round in which any was; None for fewer than two.

    A metric with `loss` in its name is one whose high values are bad.
    """
    tested = [row for row in rows if row["phase"] == "evaluate" and str(row["client"]) not in AGGREGATES]
    last = max((row["round"] for row in tested), default=0)
    found = {str(row["client"]): row.get(metric) for row in tested if row["round"] == last and metric in row}
    return fairness_of(found, "loss" not in metric) if len(found) > 1 else None


def worst_share(rows: Sequence[Row]) -> list[Row]:
    """The tenth of these clients' rows, rounded up, with the lowest accuracy (else the highest loss), worst first."""
    return sorted(rows, key=badness)[: math.ceil(WORST_SHARE * len(rows))]


def badness(row: Row) -> tuple[float, float]:
    """Ascending: the worst first. A figure that is no number is worse than any."""
    accuracy, loss = finite(row.get("accuracy")), finite(row.get("loss"))
    return (-math.inf if loss is None else accuracy or 0.0, -(math.inf if loss is None else loss))


def said(found: Fairness, metric: str = "accuracy") -> list[str]:
    """Two lines of at most 80 columns."""
    spread = (
        f"variance {found.points} points\N{SUPERSCRIPT TWO}"
        if metric == "accuracy"
        else (f"variance {found.variance:.4g}")
    )
    return [
        f"{metric} over {found.clients} clients' own tests: mean {figure(found.mean)}, worst 10 % "
        f"{figure(found.worst_tenth)},",
        f"  lowest {figure(found.lowest)}, highest {figure(found.highest)}, {spread}",
    ]
