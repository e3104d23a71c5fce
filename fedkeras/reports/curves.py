"""Learning curves from a history.csv: loss and accuracy by round, drawn by matplotlib without a display."""

import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING

from fedkeras.atomic import replace_file
from fedkeras.callbacks import Row
from fedkeras.errors import UserError
from fedkeras.reports.client_figures import in_order
from fedkeras.reports.headline import SOURCES, choose_headline
from fedkeras.reports.history import AGGREGATES, read_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".svg")
MOST_LINES = 10
"""Clients drawn as a line each; more become a band from the lowest to the highest."""
MOST_MARKERS = 20
"""Rounds up to which each is marked with a dot; a single round would not be seen otherwise."""

INK, GRID = "#333333", "#e3e3e3"
STYLES = {
    # Okabe and Ito's colours, which colour-blind readers can distinguish
    "central": ("central test set", {"color": "#0072B2", "linewidth": 2.2, "zorder": 4}),
    "clients": (
        "mean over clients, what each held out",
        {"color": "#D55E00", "linewidth": 1.8, "zorder": 3, "ls": "--"},
    ),
    "training": ("mean over clients, in training", {"color": "#009E73", "linewidth": 1.4, "zorder": 2, "ls": ":"}),
}


@dataclass(frozen=True)
class CurveWords:
    """What stands at the curves: the name of a step on the axis, and what each source of figures is called."""

    step: str
    labels: Mapping[str, str]
    short: Mapping[str, str]
    """The same where there is little room."""


ROUNDS = CurveWords(
    "round",
    {source: label for source, (label, _) in STYLES.items()},
    {"central": "central test", "clients": "mean of clients", "training": "mean in training"},
)
_OF_EPOCHS = {"central": "test set", "clients": "held-out examples", "training": "in training"}
EPOCHS = CurveWords("epoch", _OF_EPOCHS, _OF_EPOCHS)
"""Of a training without federation."""

EACH = {"color": "#D55E00", "linewidth": 0.7, "alpha": 0.4, "zorder": 1}
BAND = {"color": "#D55E00", "linewidth": 0, "alpha": 0.15, "zorder": 1}


def plot_curves(history_path: Path, out: Path, words: CurveWords = ROUNDS) -> None:
    """Draw the history's curves into `out`, a .png or .svg.

    Raises UserError where `out` is neither, cannot be written, or the history cannot be read or has no round yet.
    """
    if out.suffix.lower() not in FORMATS:
        raise UserError(f"cannot draw {out.name}: the picture's name must end in {' or '.join(FORMATS)}")
    rows = read_rows(history_path)
    if choose_headline(rows) is None:
        raise UserError(f"{history_path} holds no round yet, so there is nothing to draw")
    metrics = drawn(rows)
    if not metrics:
        raise UserError(f"{history_path} holds neither a loss nor an accuracy, so there is nothing to draw")
    replace_file(out, _draw(rows, metrics, history_path.absolute().parent.name, out.suffix.lower()[1:], words))


def drawn(rows: list[Row]) -> list[str]:
    """The metrics that a picture of this history has: none of models that came without any figure."""
    headline = choose_headline(rows)
    names = () if headline is None else ("loss", headline.metric)
    return [name for name in names if any(name in row for row in rows)]


def _draw(rows: list[Row], metrics: list[str], title: str, kind: str, words: CurveWords) -> bytes:
    # Figure without pyplot: no global state, no display, safe beside threads
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.size": 10, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": "#999999"}):
        figure = Figure(figsize=(5.2 * len(metrics), 4.3), dpi=150, layout="constrained")
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
        panels = figure.subplots(1, len(metrics), squeeze=False)[0]
        for panel, metric in zip(panels, metrics, strict=True):
            draw_panel(panel, rows, metric, words)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4 if len(metrics) > 1 else 2, frameon=False)
        out = io.BytesIO()
        figure.savefig(out, format=kind)
    return out.getvalue()


def draw_panel(panel: "Axes", rows: list[Row], metric: str, words: CurveWords = ROUNDS) -> None:
    """Draw one metric's curves: central, means over clients, and the clients' own."""
    _draw_clients(panel, rows, metric)
    for source, (_, style) in STYLES.items():
        phase, client = SOURCES[source]
        rounds, values = series((row for row in rows if (row["phase"], row["client"]) == (phase, client)), metric)
        if rounds:
            panel.plot(rounds, values, label=words.labels[source], marker=marker(rounds), markersize=4, **style)
    panel.set_xlabel(words.step)
    panel.set_ylabel({"loss": "loss", "accuracy": "accuracy (share of examples)"}.get(metric, metric))
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.grid(color=GRID, linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def _draw_clients(panel: "Axes", rows: list[Row], metric: str) -> None:
    """Thin lines, or a band, of the clients' own evaluation; of their training where they never evaluate."""
    own = client_lines(rows, metric)
    if len(own) <= MOST_LINES:
        for place, values in enumerate(own.values()):
            label = "each client" if place == 0 else None
            panel.plot([*values], [*values.values()], label=label, marker=marker([*values], "."), **EACH)
        return
    edges = spread(own)
    low, high = zip(*edges.values(), strict=True)
    panel.fill_between([*edges], low, high, label=f"lowest to highest of {len(own)} clients", **BAND)


def client_lines(rows: Iterable[Row], metric: str) -> dict[str, dict[int, float]]:
    """{cid: {round: value}} of the clients' own evaluation; of their training where they never evaluate."""
    own = [row for row in rows if row["client"] not in AGGREGATES and isinstance(row.get(metric), Real)]
    own = [row for row in own if row["phase"] == "evaluate"] or own
    lines: dict[str, dict[int, float]] = {cid: {} for cid in in_order(row["client"] for row in own)}
    for row in sorted(own, key=lambda row: row["round"]):
        lines[row["client"]][row["round"]] = row[metric]
    return lines


def spread(lines: Mapping[str, Mapping[int, float]]) -> dict[int, tuple[float, float]]:
    """{round: (lowest, highest)} of clients' lines; a diverged client is no edge of a band."""
    found: dict[int, list[float]] = {}
    for values in lines.values():
        for number, value in values.items():
            if math.isfinite(value):
                found.setdefault(number, []).append(value)
    return {number: (min(found[number]), max(found[number])) for number in sorted(found)}


def series(rows: Iterable[Row], metric: str) -> tuple[list[int], list[float]]:
    """Rounds in order and the metric in each; the last written row counts where a round has two."""
    found = {row["round"]: row[metric] for row in rows if isinstance(row.get(metric), Real)}
    return sorted(found), [found[number] for number in sorted(found)]


def marker(rounds: list[int], shape: str = "o") -> str | None:
    """The marker's shape; None where the rounds are too many to mark each."""
    return shape if len(rounds) <= MOST_MARKERS else None
