"""A report's heat maps: round x client, client x label, and the confusion matrix. A cell without a figure is empty."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fedkeras.reports.charts import Chart
from fedkeras.reports.headline import figure
from fedkeras.reports.label_counts import LabelCounts
from fedkeras.reports.predictions import Predictions
from fedkeras.reports.svg import draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CELLS = 240
"""Cells along a side; neighbours beyond that become one, their mean: a screen shows no more."""
MOST_TICKS = 12
MOST_NUMBERS = 12
"""Classes up to which a confusion matrix has its numbers written in."""
COLOURS = "viridis"
BLUE = (0.22, 0.45, 0.72)
LETTERS = 14


def heat_map(title: str, values: np.ndarray, first_round: int, clients: Sequence[str], height: float = 250) -> Chart:
    """values: (clients, rounds), NaN where there is none; the first column is round `first_round`."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    shown = shrink(shrink(np.where(np.isfinite(values), values, np.nan), 0), 1)
    last = first_round + values.shape[1] - 1

    def paint(axes: "Axes") -> None:
        extent = (first_round - 0.5, last + 0.5, len(clients) - 0.5, -0.5)
        # vmax above vmin, or all cells of a constant would have no place on the scale
        top = high if high > low else low + 1.0
        axes.imshow(shown, cmap=COLOURS, vmin=low, vmax=top, extent=extent, aspect="auto", interpolation="none")
        axes.set_xlabel("round")
        axes.xaxis.get_major_locator().set_params(integer=True)
        _ticks(axes.set_yticks, clients)
        axes.set_ylabel("client")
        axes.spines[:].set_visible(False)

    return Chart(title, draw(paint, f"{title}, by round and client", height), scale=(figure(low), figure(high)))


def label_map(labels: LabelCounts) -> Chart:
    """Examples by client and class, darker where there are more."""
    clients, classes = labels.counts.shape
    shown = shrink(labels.counts.astype(float), 0)
    top = float(labels.counts.max()) or 1.0

    def paint(axes: "Axes") -> None:
        # Centre to centre: merged clients are as tall as what they stand for
        extent = (-0.5, classes - 0.5, clients - 0.5, -0.5)
        axes.imshow(_blue(shown / top), extent=extent, aspect="auto", interpolation="none")
        _ticks(axes.set_xticks, [_short(name) for name in labels.classes], rotate=axes)
        _ticks(axes.set_yticks, labels.clients)
        axes.set_xlabel("label")
        axes.set_ylabel("client")

    note = f"The darkest cell holds {labels.counts.max()} examples."
    svg = draw(paint, "examples by client and label", height=min(420, max(200, 60 + 9 * clients)))
    return Chart("Examples by client and label", svg, note=note)


def confusion(predictions: Predictions) -> Chart:
    """Rows are the true classes; a cell is as dark as the share of its row."""
    counts = predictions.matrix()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [_short(name) for name in predictions.classes]

    def paint(axes: "Axes") -> None:
        axes.imshow(_blue(shares), aspect="auto", interpolation="none")
        _ticks(axes.set_xticks, names, rotate=axes)
        _ticks(axes.set_yticks, names)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        if len(names) <= MOST_NUMBERS:
            for (row, column), count in np.ndenumerate(counts):
                ink = {"color": "#ffffff"} if shares[row, column] > 0.5 else {}
                where = {"ha": "center", "va": "center"}
                number = axes.text(column, row, str(count), fontsize=8.5, alpha=1 if count else 0.35, **where, **ink)
                number.set_in_layout(False)  # a hundred numbers that stand inside anyway need not be measured

    return Chart("Confusion matrix", draw(paint, "confusion matrix: true class by predicted class", height=330))


def shrink(values: np.ndarray, axis: int) -> np.ndarray:
    """At most MOST_CELLS along `axis`: the mean of neighbours, without those that are NaN or infinite."""
    length = values.shape[axis]
    if length <= MOST_CELLS:
        return values
    of_cell = np.arange(length) * MOST_CELLS // length
    finite = np.isfinite(values)
    starts = np.flatnonzero(np.diff(of_cell, prepend=-1))
    total = np.add.reduceat(np.where(finite, values, 0.0), starts, axis)
    count = np.add.reduceat(finite, starts, axis, dtype=int)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _blue(shares: np.ndarray) -> np.ndarray:
    """Shares (0 to 1) as one colour, more or less transparent, so that nothing is the page's own background."""
    return np.concatenate([np.broadcast_to(BLUE, (*shares.shape, 3)), shares[..., None]], axis=-1)


def _ticks(place: Callable[[list[int], list[str]], None], names: Sequence[str], rotate: "Axes | None" = None) -> None:
    """Each name where they fit, else evenly spaced ones."""
    every = -(-len(names) // (MOST_TICKS if len(names) > 20 else 20))
    shown = [*range(0, len(names), every)]
    place(shown, [names[i] for i in shown])
    if rotate is not None and max(len(names[i]) for i in shown) * len(shown) > 40:
        rotate.tick_params(axis="x", rotation=90 if len(shown) > 8 else 40)


def _short(name: str) -> str:
    return name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"
