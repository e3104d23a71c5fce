"""A report's lines, bars and areas: learning curves, timing, labels by client, several runs on top of each other."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from fedkeras.callbacks import Row
from fedkeras.reports.curves import ROUNDS, CurveWords, draw_panel, marker, series
from fedkeras.reports.headline import figure
from fedkeras.reports.label_counts import LabelCounts
from fedkeras.reports.svg import SERIES, css, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_BARS = 60
"""Rounds that have a bar each; more become areas."""


@dataclass(frozen=True)
class Chart:
    """A picture; its legend, {label: (CSS colour, opacity)}, is the page's to set. `scale`: lowest and highest."""

    title: str
    svg: Markup
    legend: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    scale: tuple[str, str] | None = None
    note: str = ""


def curve(rows: list[Row], metric: str, words: CurveWords = ROUNDS) -> Chart:
    """One metric's learning curves."""
    legend: dict[str, tuple[str, float]] = {}

    def paint(axes: "Axes") -> None:
        draw_panel(axes, rows, metric, words)
        axes.set_ylabel("")
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            band = hasattr(handle, "get_facecolor")
            legend[label] = (css(_hex(handle.get_facecolor()[0] if band else handle.get_color())), handle.get_alpha())

    svg = draw(paint, f"{metric} by {words.step}")
    return Chart(metric, svg, {label: (colour, alpha or 1.0) for label, (colour, alpha) in legend.items()})


def overlay(runs: Mapping[str, Sequence[Row]], metric: str, where: str) -> Chart | None:
    """One metric of several runs: {run's name: its rows of one phase and client}. None if no run has it.

    The legend is all charts' together: `run_colours`.
    """
    drawn = {name: series(rows, metric) for name, rows in runs.items()}
    if not any(rounds for rounds, _ in drawn.values()):
        return None
    colours = run_colours(runs)
    # The eleventh run has the first one's colour, so it is dashed
    dashes = {name: ("-", "--", ":", "-.")[place // len(SERIES) % 4] for place, name in enumerate(runs)}

    def paint(axes: "Axes") -> None:
        for name, (rounds, values) in drawn.items():
            axes.plot(
                *(rounds, values),
                color=colours[name],
                linestyle=dashes[name],
                linewidth=1.6,
                marker=marker(rounds),
                markersize=3,
            )
        _round_axis(axes)

    return Chart(metric, draw(paint, f"{metric} by round, a line a run; {where}"))


def run_colours(names: Iterable[str]) -> dict[str, str]:
    """A colour a run, in their order."""
    return {name: SERIES[place % len(SERIES)] for place, name in enumerate(names)}


def ranked(values: Mapping[str, float], title: str) -> Chart:
    """Each client's figure as a bar, in the order of size: how far apart the clients are."""
    ordered = sorted(values.values())

    def paint(axes: "Axes") -> None:
        # Steps and not bars: a thousand bars would be a thousand elements
        axes.stairs(ordered, range(len(ordered) + 1), fill=True, color="#4477aa")
        axes.set_xlabel("clients, from the lowest to the highest")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(axis="y", color="#e3e3e3", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)

    low, middle, high = (figure(value) for value in (ordered[0], float(np.median(ordered)), ordered[-1]))
    return Chart(title, draw(paint, title), note=f"lowest {low}, median {middle}, highest {high}")


def stacked_seconds(rounds: Sequence[int], parts: Mapping[str, Sequence[float]]) -> Chart:
    """Seconds by round, part upon part."""
    colours = dict(zip(parts, SERIES, strict=False))

    def paint(axes: "Axes") -> None:
        below = np.zeros(len(rounds))
        if len(rounds) > MOST_BARS:
            axes.stackplot(rounds, *parts.values(), colors=[*colours.values()], linewidth=0)
        else:
            for name, seconds in parts.items():
                axes.bar(rounds, seconds, bottom=below, color=colours[name], width=0.8)
                below = below + np.asarray(seconds)
        _round_axis(axes)
        axes.set_ylabel("seconds")
        axes.set_ylim(bottom=0)

    legend = {name: (css(colours[name]), 1.0) for name in parts}
    return Chart("Seconds by round", draw(paint, "seconds by round and what they went to"), legend)


def label_bars(labels: LabelCounts) -> Chart:
    """A stacked bar a client. For so few clients and classes that they can be distinguished."""
    colours = SERIES[: len(labels.classes)]

    def paint(axes: "Axes") -> None:
        left, places = np.zeros(len(labels.clients)), range(len(labels.clients))
        for colour, column in zip(colours, labels.counts.T, strict=True):
            axes.barh(places, column, left=left, color=colour, height=0.82)
            left = left + column
        axes.set_yticks([*places], labels.clients)
        axes.invert_yaxis()
        axes.set_xlabel("examples")
        axes.set_ylabel("client")
        axes.grid(axis="x", color="#e3e3e3", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)

    svg = draw(paint, "examples by client and label", height=max(220, 50 + 17 * len(labels.clients)))
    legend = {name: (css(colour), 1.0) for name, colour in zip(labels.classes, colours, strict=True)}
    return Chart("Examples by client and label", svg, legend)


def _round_axis(axes: "Axes") -> None:
    axes.set_xlabel("round")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(color="#e3e3e3", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _hex(colour: str | tuple[float, ...]) -> str:
    from matplotlib.colors import to_hex

    return to_hex(colour)
