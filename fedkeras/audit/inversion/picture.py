"""Originals above what was rebuilt of them: one row a protection, one column an image."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INCH = 1.0
"""Of one image."""
LEFT = 2.0


def draw(rows: Mapping[str, np.ndarray], notes: Mapping[str, list[str]], path: Path) -> None:
    """Write a PNG of `rows`, each of images (n, height, width[, channels]) in 0..1; `notes` stand below each."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(next(iter(rows.values())))
    figure = Figure(figsize=(LEFT + INCH * count, 1.2 * INCH * len(rows)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(rows), count, squeeze=False)
    for line, (name, images) in zip(panels, rows.items(), strict=True):
        for panel, image, note in zip(line, images, notes.get(name, [""] * count), strict=True):
            show(panel, image)
            panel.set_xlabel(note, fontsize=7)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    figure.savefig(path)


def wrapped(name: str) -> str:
    """A name that may be a whole specification, in lines that fit beside a row."""
    return "\n".join(textwrap.wrap(name, 26, break_on_hyphens=False))


def show(panel: "Axes", image: np.ndarray) -> None:
    """One image on a matplotlib axes, black for 1 if it is grey."""
    grey = image.ndim == 2 or image.shape[-1] == 1
    panel.imshow(
        image.reshape(image.shape[:2]) if grey else image,
        cmap="Greys" if grey else None,
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    panel.set(xticks=[], yticks=[])
    panel.grid(False)
