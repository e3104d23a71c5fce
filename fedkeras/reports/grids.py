"""A report's heat maps: round x client, client x label, and the confusion matrix. A cell without a figure is empty."""

from collections.abc import Sequence

import numpy as np

from fedkeras.reports.axes import DARK, FONT, LETTER, LIGHT, WIDTH, Axes, Axis, Tick, round_axis
from fedkeras.reports.charts import Chart
from fedkeras.reports.headline import figure
from fedkeras.reports.label_counts import LabelCounts
from fedkeras.reports.predictions import Predictions

MOST_CELLS = 240
"""Cells along a side; neighbours beyond that become one, their mean: a screen shows no more."""
MOST_BOXES = 1500
"""Cells that are an element each, which says its value; more are an image, whose rows say theirs."""
MOST_NUMBERS = 12
"""Cells along a side that have their numbers written in."""
MOST_FITTING = 20
"""Classes that fit the width of a phone; more make a picture that is moved from side to side."""
CELL = 13
"""Points that a class takes in such a picture: enough for its name."""
VIRIDIS = ("440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "addc30", "fde725")
"""The scale of colours of a heat map, which colour-blind readers can follow: nine of matplotlib's 256."""
BLUE = "var(--s0)"
BLUE_RGB = (0x44, 0x77, 0xAA)
LETTERS = 14


def heat_map(title: str, values: np.ndarray, first_round: int, clients: Sequence[str], height: float = 250) -> Chart:
    """values: (clients, rounds), NaN where there is none; the first column is round `first_round`."""
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    span = high - low if high > low else 1.0
    rows, columns = values.shape
    few = rows <= MOST_NUMBERS and columns <= MOST_NUMBERS
    x, y = round_axis(first_round, first_round + columns - 1), _down(clients, "client", height)
    axes = Axes(f"{title}, by round and client", x, y, height=44 + 20 * rows if few else height, grid="")
    if values.size <= MOST_BOXES:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                number, share = first_round + column, (value - low) / span
                place = (number - 0.5, number + 0.5), (row - 0.5, row + 0.5)
                said = f"round {number}, client {clients[row]}: {figure(float(value))}"
                axes.box(*place, f"#{bytes(viridis(np.array(share))[:3]).hex()}", title=said)
                if few:
                    colour = DARK if share > 0.55 else LIGHT
                    axes.text(number, row, _short_number(value), colour=colour, size=FONT - 1.5 - (columns > 10))
    else:
        shown = shrink(shrink(np.where(np.isfinite(values), values, np.nan), 0), 1)
        axes.image((x.low, x.high), (y.low, y.high), viridis((shown - low) / span))
        for row in range(0, rows, -(-rows // MOST_CELLS)):
            own = values[row][np.isfinite(values[row])]
            if own.size:
                said = f"client {clients[row]}: lowest {figure(own.min())}, highest {figure(own.max())}"
                axes.hover((x.low, x.high), f"{said}, last {figure(own[-1])}", (row - 0.5, row + 0.5))
    return Chart(title, axes.svg(), scale=(figure(low), figure(high)))


def label_map(labels: LabelCounts) -> Chart:
    """Examples by client and class, darker where there are more."""
    rows, columns = labels.counts.shape
    top = float(labels.counts.max()) or 1.0
    width = _width(columns)
    x, upright = _across(labels.classes, "label", width)
    height = 40 + min(390.0, max(14.0 * rows, 80.0)) + LETTER * max(len(name) for _, name in x.ticks) * upright
    axes = Axes("examples by client and label", x, _down(labels.clients, "client", height), height, width, "", upright)
    if np.count_nonzero(labels.counts) <= MOST_BOXES:
        _boxes(axes, labels.counts, labels.counts / top, labels.clients, labels.classes, "client {}, label {}: {}")
    else:
        # Merged clients are as tall as what they stand for
        axes.image((x.low, x.high), (rows - 0.5, -0.5), _blue(shrink(labels.counts.astype(float), 0) / top))
        for row in range(0, rows, -(-rows // MOST_CELLS)):
            counts = labels.counts[row]
            most = int(counts.argmax())
            said = f"client {labels.clients[row]}: {counts.sum()} examples of {np.count_nonzero(counts)} labels"
            said += f", most of {labels.classes[most]} ({counts[most]})"
            axes.hover((x.low, x.high), said, (row - 0.5, row + 0.5))
    note = f"The darkest cell holds {labels.counts.max()} examples."
    return Chart("Examples by client and label", axes.svg(), note=note, width=_wide(columns))


def confusion(predictions: Predictions) -> Chart:
    """Rows are the true classes; a cell is as dark as the share of its row."""
    counts = predictions.matrix()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names, number = predictions.classes, len(predictions.classes)
    width = _width(number)
    height = 330 if number <= MOST_FITTING else 60 + CELL * number
    x, upright = _across(names, "predicted", width)
    what = "confusion matrix: true class by predicted class"
    axes = Axes(what, x, _down(names, "true", height), height, width, "", upright)
    _boxes(axes, counts, shares, names, names, "{}, called {}: {}")
    if number <= MOST_NUMBERS:
        for (row, column), count in np.ndenumerate(counts):
            colour = {"colour": LIGHT} if shares[row, column] > 0.5 else {"opacity": 1.0 if count else 0.35}
            axes.text(column, row, str(count), **colour)
    return Chart("Confusion matrix", axes.svg(), width=_wide(number))


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


def _boxes(
    axes: Axes, counts: np.ndarray, shares: np.ndarray, rows: Sequence[str], columns: Sequence[str], said: str
) -> None:
    """A box for each count that is not 0, as dark as its share (0 to 1)."""
    for row, column in zip(*np.nonzero(counts), strict=True):
        title = said.format(rows[row], columns[column], counts[row, column])
        place = (column - 0.5, column + 0.5), (row - 0.5, row + 0.5)
        axes.box(*place, BLUE, max(0.06, float(shares[row, column])), title)


def _blue(shares: np.ndarray) -> np.ndarray:
    """Shares (0 to 1) as one colour, more or less transparent, so that nothing is the page's own background."""
    return np.concatenate([np.broadcast_to(BLUE_RGB, (*shares.shape, 3)), 255 * shares[..., None]], axis=-1)


def viridis(shares: np.ndarray) -> np.ndarray:
    """Shares (0 to 1) as colours (..., 4), whole numbers up to 255; transparent where there is none."""
    anchors = np.array([list(bytes.fromhex(colour)) for colour in VIRIDIS], float)
    known = np.nan_to_num(shares)
    places = np.linspace(0, 1, len(anchors))
    colours = [np.interp(known, places, anchors[:, channel]) for channel in range(3)]
    return np.stack([*colours, np.where(np.isnan(shares), 0, 255)], axis=-1).round().astype(np.uint8)


def _down(names: Sequence[str], label: str, height: float) -> Axis:
    """Rows from top to bottom, each with its name where they fit."""
    return Axis(len(names) - 0.5, -0.5, _names(names, max(1, int(height / (FONT + 2.5)))), label)


def _across(names: Sequence[str], label: str, width: float) -> tuple[Axis, bool]:
    """Columns from left to right, and whether their names must stand upright."""
    room = (width - 60) / max(1, len(names))
    upright = max(map(len, map(_short, names)), default=0) * LETTER + 3 > room
    return Axis(-0.5, len(names) - 0.5, _names(names, int((width - 60) / (FONT + 2))), label), upright


def _names(names: Sequence[str], most: int) -> list[Tick]:
    every = -(-len(names) // most)
    return [(place, _short(names[place])) for place in range(0, len(names), every)]


def _width(columns: int) -> float:
    return WIDTH if columns <= MOST_FITTING else 70.0 + CELL * columns


def _wide(columns: int) -> int:
    return 0 if columns <= MOST_FITTING else round(_width(columns))


def _short(name: str) -> str:
    """Without the middle of a long one: names of classes often differ in their ends."""
    return name if len(name) <= LETTERS else f"{name[: LETTERS // 2 - 1]}…{name[-(LETTERS // 2) :]}"


def _short_number(value: float) -> str:
    """A number that fits a cell; the whole of it is said on hover."""
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.3g}"
