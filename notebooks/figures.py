"""Figures that several notebooks draw alike: curves of several runs, and a grid of numbers.

Colours are Okabe and Ito's, which colour-blind readers tell apart; lines differ in style as well.
"""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

BLACK, BLUE, ORANGE, GREEN, PINK, YELLOW, SKY = (
    "#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9",
)  # fmt: skip
COLORS = (BLACK, BLUE, ORANGE, GREEN, PINK, YELLOW, SKY)
LINES = ("-", "--", "-.", ":", "-", "--", "-.")


def use_style() -> None:
    """For all figures of a notebook from here on."""
    plt.rcParams.update({"figure.dpi": 90, "font.size": 10, "axes.spines.top": False, "axes.spines.right": False})


def draw_curves(panel: Axes, tables: Mapping[str, pd.DataFrame], title: str) -> None:
    """A line for each table (rounds, seeds), the mean over seeds, in a band from the lowest to the highest."""
    for (name, table), color, line in zip(tables.items(), COLORS, LINES, strict=False):
        panel.plot(table.index, table.mean(axis=1), color=color, linestyle=line, label=name, linewidth=1.8)
        panel.fill_between(table.index, table.min(axis=1), table.max(axis=1), color=color, alpha=0.1, linewidth=0)
    panel.set_title(title, fontsize=10)
    panel.set_xlabel("round")
    panel.set_ylim(0, 1.02)
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.grid(color="#e3e3e3", linewidth=0.8)


def draw_grid(panel: Axes, grid: pd.DataFrame, title: str, low: float = 0.0) -> AxesImage:
    """A table of accuracies or recalls, `low` to 1, each number on its own colour; returns what a colour bar needs."""
    image = panel.imshow(grid, cmap="cividis", vmin=low, vmax=1, aspect="auto")
    for i, row in enumerate(grid.to_numpy()):
        for j, value in enumerate(row):
            ink = "white" if value < (low + 1) / 2 else "black"
            panel.text(j, i, f"{value:.2f}", ha="center", va="center", color=ink)
    panel.set_xticks(range(grid.shape[1]), grid.columns)
    panel.set_yticks(range(len(grid)), grid.index)
    panel.set_title(title, fontsize=10)
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0)
    return image
