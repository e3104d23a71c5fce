"""The attackers' statistics as a picture: of what was trained on, and of what was left out, side by side."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedkeras.atomic import replace_file
from fedkeras.audit.finding import Finding
from fedkeras.reports.colours import SERIES

NAME = "audit.png"
BINS = 40


def draw(findings: Sequence[Finding], folder: Path) -> Path | None:
    """Write audit.png, a panel a finding that has scores; its path, None where there is none. UserError."""
    shown = [finding for finding in findings if finding.scores is not None]
    if not shown:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.6 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, finding in zip(np.atleast_1d(figure.subplots(len(shown))), shown, strict=True):
        scores = finding.scores
        edges = edges_of([*scores.included, *scores.left_out])
        for values, label, colour in (
            (scores.included, f"trained on ({len(scores.included)})", SERIES[0]),
            (scores.left_out, f"left out ({len(scores.left_out)})", SERIES[1]),
        ):
            axes.stairs(shares(values, edges), edges, fill=True, alpha=0.5, color=colour, label=label)
        axes.set_title(f"{finding.title}: {finding.verdict}", fontsize=10)
        axes.set_xlabel(scores.label)
        axes.set_ylabel("share")
        axes.legend(fontsize=8)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    replace_file(folder / NAME, content.getvalue())
    return folder / NAME


def edges_of(values: Sequence[float]) -> np.ndarray:
    """Borders of BINS bins over these values; the uppermost hundredth is all in the last."""
    known = np.asarray(values, float)
    low, high = (float(each) for each in np.quantile(known, [0.0, 0.99])) if len(known) else (0.0, 1.0)
    return np.linspace(low, high if high > low else low + 1, BINS + 1)


def shares(values: Sequence[float], edges: np.ndarray) -> np.ndarray:
    """What share of the values lies in each bin."""
    return np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / max(1, len(values))
