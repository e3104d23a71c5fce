"""A history in other shapes: one row a round for documents, and the lists that Flower's `History` kept."""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real

from fedkeras.callbacks import Row
from fedkeras.reports.headline import SOURCES, Headline, figure, finite, metric_names

Series = list[tuple[int, float | None]]
"""(round, value); None where the value is no finite number."""

FLOWER = {
    "losses_distributed": "clients",
    "losses_centralized": "central",
    "metrics_distributed_fit": "training",
    "metrics_distributed": "clients",
    "metrics_centralized": "central",
}
"""An attribute of Flower's `History` -> the source (a key of SOURCES) that it is made of."""


def by_round(rows: Iterable[Row]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Column titles and a line a round: loss and metrics of each source there is; a dash where nothing was measured."""
    rows = list(rows)
    series = {
        f"{name} ({source})": dict(values)
        for source in SOURCES
        for name, values in all_series(Headline(source).select(rows)).items()
    }
    rounds = sorted({number for values in series.values() for number in values})
    return ("round", *series), [
        (str(number), *(figure(values.get(number)) for values in series.values())) for number in rounds
    ]


def markdown(rows: Iterable[Row]) -> str:
    """The table of `by_round`, as Markdown has it."""
    titles, lines = by_round(rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in (titles, ["---:"] * len(titles), *lines))


def flower(rows: Iterable[Row]) -> Mapping[str, Series | Mapping[str, Series]]:
    """The attributes of Flower's `History` (flwr.server.history): losses by round, and metrics by name and round."""
    rows = list(rows)
    series = {source: all_series(Headline(source).select(rows)) for source in SOURCES}
    losses = {name: series[source].get("loss", []) for name, source in FLOWER.items() if name.startswith("losses")}
    metrics = {
        name: {metric: values for metric, values in series[source].items() if metric != "loss" or source == "training"}
        for name, source in FLOWER.items()
        if name.startswith("metrics")
    }
    return {**losses, **metrics}


def all_series(rows: Sequence[Row]) -> dict[str, Series]:
    """The loss and every metric of one source's rows, in the order of their columns."""
    return {
        name: [(row["round"], finite(row[name])) for row in rows if isinstance(row.get(name), Real)]
        for name in metric_names(rows)
    }
