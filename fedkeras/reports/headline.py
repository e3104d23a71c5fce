"""Which loss and accuracy stand for a run: central ones if there are any, else the clients' mean.

One choice, made once a run, for the live table, the summary and the curves alike.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real

from fedkeras.reports.history import NO_METRICS

SOURCES = {"central": ("evaluate", "server"), "clients": ("evaluate", "all"), "training": ("train", "all")}
"""Name of a source -> (phase, client) of its rows, the best first."""


@dataclass(frozen=True)
class Headline:
    """A source (a key of SOURCES) and the metric shown beside the loss, `accuracy` unless the model has none."""

    source: str
    metric: str = "accuracy"

    def select(self, rows: Iterable[Mapping[str, object]]) -> list[Mapping[str, object]]:
        """This source's rows, one a round in the order of rounds; the last written counts where a round has two."""
        phase, client = SOURCES[self.source]
        found = {row["round"]: row for row in rows if row["phase"] == phase and str(row["client"]) == client}
        return [found[number] for number in sorted(found)]


def choose_headline(rows: Iterable[Mapping[str, object]]) -> Headline | None:
    """The best source that has rows, or None if none has."""
    rows = list(rows)
    for source in SOURCES:
        chosen = Headline(source).select(rows)
        if chosen:
            return Headline(source, _metric(chosen))
    return None


def figures(rows: Iterable[Mapping[str, object]]) -> dict[str, object]:
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


def best(rows: Iterable[Mapping[str, object]]) -> Mapping[str, object]:
    """The first row of the highest accuracy, else of the lowest loss; an empty mapping if there is neither."""
    rows = list(rows)
    accurate = [row for row in rows if finite(row.get("accuracy")) is not None]
    if accurate:
        return max(accurate, key=lambda row: row["accuracy"])
    return min((row for row in rows if finite(row.get("loss")) is not None), key=lambda row: row["loss"], default={})


def best_title(rows: Iterable[Mapping[str, object]], metric: str) -> str:
    """What `metric` in the row of `best` is: no metric's best but accuracy's and the loss's, as which of the others is
    better, a high or a low one, nobody says.
    """
    by_accuracy = any(finite(row.get("accuracy")) is not None for row in rows)
    return f"best {metric}" if metric == ("accuracy" if by_accuracy else "loss") else f"{metric} at the lowest loss"


def finite(value: object) -> float | None:
    """A figure as a float; None for what is no number, or one that a diverged run gives."""
    return float(value) if isinstance(value, Real) and math.isfinite(value) else None


def _metric(rows: list[Mapping[str, object]]) -> str:
    if any(row.get("accuracy") is not None for row in rows):
        return "accuracy"
    others = (key for row in rows for key in row if key not in NO_METRICS and isinstance(row[key], Real))
    return next(others, "accuracy")
