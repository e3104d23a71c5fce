"""A study's pictures: a heat map of defences by attacks, and accuracy by the fraction of malicious clients."""

from collections.abc import Sequence

import numpy as np

from fedkeras.reports.axes import DARK, FONT, LIGHT, Axes, Axis, number_axis
from fedkeras.reports.charts import Chart, Key, run_keys
from fedkeras.reports.grids import viridis
from fedkeras.reports.headline import figure
from fedkeras.study.grid import NOBODY, Cell, Condition
from fedkeras.study.table import Results, Round, columns_of, defences_of, figure_of, head_of

ROW = 26
MOST_WRITTEN = 12
"""Columns up to which a cell has its number written in."""
PERCENT = 100


def legend(cells: Sequence[Cell]) -> dict[str, Key]:
    """A line a defence, as the page takes it."""
    return run_keys(dict.fromkeys(defences_of(cells)))


def heat_map(cells: Sequence[Cell], results: Results, condition: Condition, which: Round) -> Chart:
    """Rows are defences, columns attacks by fractions, a colour from 0 to 1; a cell that is not finished is empty."""
    defences, columns = defences_of(cells), columns_of(cells)
    x = Axis(-0.5, len(columns) - 0.5, [(place, head_of(column)) for place, column in enumerate(columns)], "")
    y = Axis(len(defences) - 0.5, -0.5, [*enumerate(defences)], "")
    title = f"Accuracy in the {which} round"
    letters = max(len(head_of(column)) for column in columns)
    axes = Axes(title, x, y, height=60 + 6 * letters + ROW * len(defences), grid="", upright=len(columns) > 3)
    for row, defence in enumerate(defences):
        for place, column in enumerate(columns):
            if (one := figure_of(results, Cell(condition, defence, *column), which)) is None:
                continue
            share = float(np.clip(one.mean, 0, 1))
            said = f"{defence}, {head_of(column)}: {figure(one.mean)}"
            colour = f"#{bytes(viridis(np.array(share))[:3]).hex()}"
            axes.box((place - 0.5, place + 0.5), (row - 0.5, row + 0.5), colour, title=said)
            if len(columns) <= MOST_WRITTEN:
                ink = DARK if share > 0.55 else LIGHT
                axes.text(place, row, f"{one.mean:.2f}", colour=ink, size=FONT - 1.5 - (len(columns) > 8))
    return Chart(title, axes.svg(), scale=("0", "1"))


def by_fraction(cells: Sequence[Cell], results: Results, condition: Condition) -> list[Chart]:
    """An attack a picture, a line a defence, from nobody to the largest fraction; none with a single fraction."""
    keys, made = legend(cells), []
    for attack in dict.fromkeys(cell.attack for cell in cells if not cell.nobody):
        fractions = [0.0, *sorted({cell.malicious for cell in cells if cell.attack == attack})]
        if len(fractions) < 3:
            continue
        title = f"{attack}: accuracy by malicious clients"
        axes = Axes(
            title, number_axis([PERCENT * each for each in fractions], "percent malicious"), number_axis([0, 1])
        )
        for defence in defences_of(cells):
            cells_of_line = [Cell(condition, defence, attack if f else NOBODY, f) for f in fractions]
            known = [(f, figure_of(results, cell, "last")) for f, cell in zip(fractions, cells_of_line, strict=True)]
            points = [(PERCENT * fraction, one.mean) for fraction, one in known if one is not None]
            axes.line(points, keys[defence].colour, 1.8, keys[defence].dash)
            axes.dots(points, keys[defence].colour)
        made.append(Chart(title, axes.svg()))
    return made
