"""Which loss and metric stand for a run: central ones if there are any, else the clients' mean; and how one is shown.

One choice, made once a run, for the live table, the summary and the curves alike.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real

from fedkeras.callbacks import Row
from fedkeras.reports.history import NO_METRICS

SOURCES = {"central": ("evaluate", "server"), "clients": ("evaluate", "all"), "training": ("train", "all")}
"""Name of a source -> (phase, client) of its rows, the best first."""


@dataclass(frozen=True)
class Headline:
    """A source (a key of SOURCES) and the metric shown beside the loss, `accuracy` unless the model has none."""

    source: str
    metric: str = "accuracy"

    def select(self, rows: Iterable[Row]) -> list[Row]:
        """This source's rows, one a round in the order of rounds; the last written counts where a round has two."""
        phase, client = SOURCES[self.source]
        found = {row["round"]: row for row in rows if row["phase"] == phase and str(row["client"]) == client}
        return [found[number] for number in sorted(found)]


SHARED = "shared_loss"
"""A column that clients' rows have where they are tested with models of their own: the shared one's loss beside it."""


def choose_headline(rows: Iterable[Row]) -> Headline | None:
    """The best source that has rows, or None if none has.

    Where clients end with models of their own, these stand for the run, and not the shared one on the server.
    """
    rows = list(rows)
    personal = any(SHARED in row for row in Headline("clients").select(rows))
    for source in ["clients", *SOURCES] if personal else SOURCES:
        chosen = Headline(source).select(rows)
        if chosen:
            return Headline(source, _metric(chosen))
    return None


def figures(rows: Iterable[Row]) -> dict[str, float | str | None]:
    """Rounds done, and the last and best figures of the headline; None for what there is none of."""
    rows = list(rows)
    headline = choose_headline(rows)
    shown = headline.select(rows) if headline else []
    last, top = (shown[-1] if shown else {}), best(shown)
    return {
        "rounds": max((row["round"] for row in rows), default=0),
        "source": headline.source if headline else None,
        "accuracy": finite(last.get("accuracy")),
        "loss": finite(last.get("loss")),
        "best_accuracy": finite(top.get("accuracy")),
        "best_round": top.get("round"),
    }


def metric_names(rows: Iterable[Row]) -> list[str]:
    """The loss and every metric that has a number in these rows, in the order of their columns."""
    names = dict.fromkeys(key for row in rows for key, value in row.items() if isinstance(value, Real))
    return [name for name in names if name in ("loss", "accuracy") or name not in NO_METRICS]


def best(rows: Iterable[Row]) -> Row:
    """The first row of the highest accuracy, else of the lowest loss; an empty mapping if there is neither.

    A row whose loss is not finite is none: a model that gives NaN has some accuracy too, that of the first class.
    """
    rows = [row for row in rows if not diverged(row)]
    accurate = [row for row in rows if finite(row.get("accuracy")) is not None]
    if accurate:
        return max(accurate, key=lambda row: row["accuracy"])
    return lowest_loss(rows)


def lowest_loss(rows: Iterable[Row]) -> Row:
    """The first row of the lowest loss; an empty mapping if none has a finite one."""
    return min((row for row in rows if finite(row.get("loss")) is not None), key=lambda row: row["loss"], default={})


def best_title(rows: Iterable[Row], metric: str) -> str:
    """What to call `metric` in the row of `best`.

    It is a best value only if the row was chosen by it: whether a high or a low value of another metric is the better
    one is not known.
    """
    by_accuracy = any(finite(row.get("accuracy")) is not None for row in rows if not diverged(row))
    return f"best {metric}" if metric == ("accuracy" if by_accuracy else "loss") else f"{metric} at the lowest loss"


def figure(value: float | str | None) -> str:
    """A loss or metric to four places, in eight characters or so whatever its size; a dash where it is no number."""
    if not isinstance(value, Real):
        return "-"
    return f"{value:.4f}" if abs(value) < 10_000 else f"{value:.4g}"


def diverged(row: Row) -> bool:
    """True if the row has a loss, and it is not finite."""
    return row.get("loss") is not None and finite(row["loss"]) is None


def finite(value: float | str | None) -> float | None:
    """A figure as a float; None for what is no number, or one that a diverged run gives."""
    return float(value) if isinstance(value, Real) and math.isfinite(value) else None


def _metric(rows: list[Row]) -> str:
    if any(row.get("accuracy") is not None for row in rows):
        return "accuracy"
    others = (key for row in rows for key in row if key not in NO_METRICS and isinstance(row[key], Real))
    return next(others, "accuracy")
