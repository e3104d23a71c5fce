"""A report's lines, bars and areas: learning curves, timing, labels by client, several runs on top of each other.

A picture of few things writes its numbers into itself; one of many says them to who points at it.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from fedkeras.callbacks import Row
from fedkeras.reports.axes import DARK, LIGHT, Axes, Axis, number_axis, round_axis, ticks
from fedkeras.reports.client_figures import in_order
from fedkeras.reports.colours import SERIES, css
from fedkeras.reports.curves import MOST_LINES, ROUNDS, CurveWords, client_lines, series, spread
from fedkeras.reports.headline import SOURCES, figure
from fedkeras.reports.history import BYTES
from fedkeras.reports.label_counts import LabelCounts

MOST_BARS = 60
"""Rounds that have a bar each; more become areas."""
MOST_NAMED = 12
"""Clients up to which each has a bar with its name and its number."""
MOST_COLUMNS = 240
"""Places of a picture that say their values; of more rounds or clients every second, third, ... does."""
MOST_DOTS = 20
"""Rounds up to which each is marked with a dot; a single one would not be seen otherwise."""
BAR = 19.0
"""Points of height of a bar with a name."""
LINE_STYLES = {"central": (2.4, ""), "clients": (1.9, "7 3"), "training": (1.7, "2 3")}
"""Source -> width and dashes: lines differ by more than colour."""
ON_SERIES = {css(colour): DARK if place in (1, 4, 5) else LIGHT for place, colour in enumerate(SERIES)}
"""What is read on each colour of a series: its orange, yellow and light blue take dark letters."""
DASHES = ("", "7 3", "2 3", "9 3 2 3")


class Key(NamedTuple):
    """What stands before a name in a legend: an area of a colour, or a line."""

    colour: str
    """CSS."""
    opacity: float = 1.0
    line: bool = False
    dash: str = ""


@dataclass(frozen=True)
class Chart:
    """A picture; its legend is the page's to set. `scale`: lowest and highest."""

    title: str
    svg: Markup
    legend: Mapping[str, Key] = field(default_factory=dict)
    scale: tuple[str, str] | None = None
    note: str = ""
    width: int = 0
    """Of a wide picture: points below which it is not shrunk, but moved from side to side; it has a row of its own."""


def curve(rows: list[Row], metric: str, words: CurveWords = ROUNDS) -> Chart:
    """One metric's learning curves; of a single round, its figures as bars."""
    lines = {
        source: dict(zip(*series((row for row in rows if (row["phase"], row["client"]) == key), metric), strict=True))
        for source, key in SOURCES.items()
    }
    lines = {source: values for source, values in lines.items() if values}
    own = client_lines(rows, metric)
    rounds = sorted({*(number for values in (*lines.values(), *own.values()) for number in values)})
    if len(rounds) <= 1:
        return _single_step(metric, rounds, lines, own, words)
    many = len(own) > MOST_LINES
    known = [value for values in (*lines.values(), *own.values()) for value in values.values()]
    axes = Axes(f"{metric} by {words.step}", round_axis(rounds[0], rounds[-1], words.step), number_axis(known))
    legend: dict[str, Key] = {}
    if many:
        edges = spread(own)
        low, high = [(n, values[0]) for n, values in edges.items()], [(n, values[1]) for n, values in edges.items()]
        axes.area([*low, *reversed(high)], "var(--clients)", 0.15)
        legend[f"lowest to highest of {len(own)} clients"] = Key("var(--clients)", 0.4)
    else:
        for values in own.values():
            axes.line(values.items(), "var(--clients)", 0.8, opacity=0.5)
        if own:
            legend["each client"] = Key("var(--clients)", 0.5, line=True)
    for source, values in reversed(lines.items()):
        width, dash = LINE_STYLES[source]
        axes.line(values.items(), f"var(--{source})", width, dash)
        if len(rounds) <= MOST_DOTS:
            axes.dots(values.items(), f"var(--{source})", 2.6)
    legend |= {words.labels[source]: Key(f"var(--{source})", 1.0, True, LINE_STYLES[source][1]) for source in lines}

    def said(number: int) -> str:
        named = {words.labels[source]: values.get(number) for source, values in lines.items()}
        if many:
            named |= dict(zip(("lowest of the clients", "highest of the clients"), edges.get(number, ()), strict=False))
        else:
            named |= {f"client {cid}": values.get(number) for cid, values in own.items()}
        return values_said(f"{words.step} {number}", named)

    say_steps(axes, rounds, said)
    return Chart(metric, axes.svg(), legend)


def _single_step(
    metric: str, rounds: Sequence[int], lines: Mapping[str, Mapping[int, float]],
    own: Mapping[str, Mapping[int, float]], words: CurveWords,
) -> Chart:  # fmt: skip
    """A curve of one point is none: a bar for each figure, with its number."""
    bars = {words.short[source]: (*values.values(), f"var(--{source})") for source, values in lines.items()}
    if len(own) <= MOST_LINES:
        bars |= {f"client {cid}": (*values.values(), "var(--clients)") for cid, values in own.items()}
    values = {name: value for name, (value, _) in bars.items()}
    svg = named_bars(f"{metric} by {words.step}", values, {name: colour for name, (_, colour) in bars.items()})
    return Chart(metric, svg, note=f"Of {words.step} {rounds[0]} alone." if rounds else "")


def overlay(runs: Mapping[str, Sequence[Row]], metric: str, where: str) -> Chart | None:
    """One metric of several runs: {run's name: its rows of one phase and client}. None if no run has it.

    The legend is all charts' together: `run_keys`.
    """
    drawn = {name: dict(zip(*series(rows, metric), strict=True)) for name, rows in runs.items()}
    if not any(drawn.values()):
        return None
    return steps(metric, f"{metric} by round, a line a run; {where}", drawn, run_keys(runs))


def steps(
    title: str, what: str, drawn: Mapping[str, Mapping[int, float]], keys: Mapping[str, Key], step: str = "round"
) -> Chart:
    """Lines by round, or by another step: {name: {step: value}}; of a single step, bars."""
    rounds = sorted({number for values in drawn.values() for number in values})
    if len(rounds) == 1:
        values = {name: own[rounds[0]] for name, own in drawn.items() if own}
        return Chart(title, named_bars(what, values, {name: keys[name].colour for name in values}))
    known = [value for values in drawn.values() for value in values.values()]
    axes = Axes(what, round_axis(rounds[0], rounds[-1], step), number_axis(known))
    for name, values in drawn.items():
        axes.line(values.items(), keys[name].colour, 1.8, keys[name].dash)
        if len(rounds) <= MOST_DOTS:
            axes.dots(values.items(), keys[name].colour)
    say_steps(axes, rounds, lambda n: values_said(f"{step} {n}", {name: own.get(n) for name, own in drawn.items()}))
    return Chart(title, axes.svg())


def traffic(rows: Iterable[Row]) -> Chart | None:
    """Megabytes by round in both directions, training and evaluation together; None where they were not counted."""
    names = dict(zip(BYTES, ("from the clients (up)", "to the clients (down)"), strict=True))
    drawn: dict[str, dict[int, float]] = {name: {} for name in names.values()}
    for row in rows:
        if row["client"] == "all":
            for column, name in names.items():
                if column in row:
                    drawn[name][row["round"]] = drawn[name].get(row["round"], 0.0) + row[column] / 1e6
    if not any(drawn.values()):
        return None
    keys = run_keys(drawn)
    chart = steps("Megabytes by round", "megabytes by round, from and to the clients", drawn, keys)
    return replace(chart, legend=keys)


def run_keys(names: Iterable[str]) -> dict[str, Key]:
    """A line a run, in their order: neighbours differ in colour and in dashes, and no two of twenty are alike."""
    colours = run_colours(names)
    return {
        name: Key(css(colour), 1.0, True, DASHES[place % len(DASHES)])
        for place, (name, colour) in enumerate(colours.items())
    }


def run_colours(names: Iterable[str]) -> dict[str, str]:
    """A colour a run, in their order."""
    return {name: SERIES[place % len(SERIES)] for place, name in enumerate(names)}


def ranked(values: Mapping[str, float], title: str) -> Chart:
    """Each client's figure as a bar: of few by name, of many in the order of size: how far apart the clients are."""
    ordered = sorted(values.items(), key=lambda pair: pair[1])
    low, middle, high = (figure(v) for v in (ordered[0][1], float(np.median([*values.values()])), ordered[-1][1]))
    note = f"lowest {low}, median {middle}, highest {high}"
    if len(values) <= MOST_NAMED:
        named = {f"client {cid}": values[cid] for cid in in_order(values)}
        return Chart(title, named_bars(title, named, dict.fromkeys(named, css(SERIES[0]))), note=note)
    axis = Axis(0, len(ordered), [], "clients, from the lowest to the highest")
    axes = Axes(title, axis, number_axis(values.values(), from_zero=True), grid="y")
    # Steps and not bars: a thousand bars would be a thousand elements
    steps = [(x, value) for place, (_, value) in enumerate(ordered) for x in (place, place + 1)]
    axes.area([(0, 0), *steps, (len(ordered), 0)], css(SERIES[0]))
    every = -(-len(ordered) // MOST_COLUMNS)
    for place in range(0, len(ordered), every):
        cid, value = ordered[place]
        axes.hover((place, place + every), f"client {cid}: {figure(value)}")
    return Chart(title, axes.svg(), note=note)


def named_bars(what: str, values: Mapping[str, float], colours: Mapping[str, str]) -> Markup:
    """A bar and its number for each name, from zero on."""
    known = [value for value in values.values() if math.isfinite(value)]
    x = number_axis(known, from_zero=True, most=5)
    x = x._replace(high=x.high + 0.16 * (x.high - x.low))  # for the number behind the longest bar
    y = Axis(len(values) - 0.5, -0.5, [(place, name) for place, name in enumerate(values)])
    axes = Axes(what, x, y, height=44 + BAR * max(1, len(values)), grid="x")
    for place, (name, value) in enumerate(values.items()):
        length = value if math.isfinite(value) else 0.0
        axes.box((0, length), (place - 0.36, place + 0.36), colours[name], title=f"{name}: {figure(value)}")
        axes.text(max(0.0, length), place, figure(value), "start", shift=4)
    return axes.svg()


def stacked_seconds(rounds: Sequence[int], parts: Mapping[str, Sequence[float]]) -> Chart:
    """Seconds by round, part upon part."""
    colours = {name: css(colour) for name, colour in zip(parts, SERIES, strict=False)}
    tops = list(accumulate(np.asarray(seconds, float) for seconds in parts.values()))
    y = number_axis(tops[-1], "seconds", from_zero=True)
    axes = Axes("seconds by round and what they went to", round_axis(rounds[0], rounds[-1]), y, grid="y")
    below, half = np.zeros(len(rounds)), 0.4 * min(1.0, len(rounds) / 6)
    for colour, above in zip(colours.values(), tops, strict=True):
        if len(rounds) > MOST_BARS:
            edge = [*zip(rounds, above, strict=True), *reversed([*zip(rounds, below, strict=True)])]
            axes.area(edge, colour)
        else:
            for number, low, high in zip(rounds, below, above, strict=True):
                axes.box((number - half, number + half), (low, high), colour)
        below = above

    def said(number: int) -> str:
        place = rounds.index(number)
        return values_said(f"round {number}", {name: seconds[place] for name, seconds in parts.items()}, " s")

    say_steps(axes, rounds, said)
    return Chart("Seconds by round", axes.svg(), {name: Key(colour) for name, colour in colours.items()})


def label_bars(labels: LabelCounts) -> Chart:
    """A stacked bar a client. For so few clients and classes that they can be distinguished."""
    colours = [css(colour) for colour in SERIES[: len(labels.classes)]]
    totals = labels.counts.sum(axis=1)
    longest = float(totals.max()) or 1.0
    x = Axis(0, longest, ticks(0, longest, 5), "examples")
    y = Axis(len(labels.clients) - 0.5, -0.5, [*enumerate(labels.clients)], "client")
    height = max(120, 50 + 20 * len(labels.clients))
    axes = Axes("examples by client and label", x, y, height=height, grid="x")
    for place, (cid, counts) in enumerate(zip(labels.clients, labels.counts, strict=True)):
        left = 0
        for name, count, colour in zip(labels.classes, counts, colours, strict=True):
            title = f"client {cid}: {count} of label {name}"
            if count:
                axes.box((left, left + int(count)), (place - 0.41, place + 0.41), colour, title=title)
            if axes.x(left + int(count)) - axes.x(left) > 7 * len(name) + 4:
                axes.text(left + count / 2, place, name, colour=ON_SERIES[colour], size=9)
            left += int(count)
    legend = {name: Key(colour) for name, colour in zip(labels.classes, colours, strict=True)}
    return Chart("Examples by client and label", axes.svg(), legend)


def values_said(head: str, named: Mapping[str, float | None], unit: str = "") -> str:
    """What a place says: a line a figure."""
    return "\n".join([head, *(f"{name}: {figure(v)}{unit}" for name, v in named.items() if v is not None)])


def say_steps(axes: Axes, rounds: Sequence[int], said: Callable[[int], str]) -> None:
    """Each round's column says its figures."""
    every = -(-len(rounds) // MOST_COLUMNS)
    for number in rounds[::every]:
        axes.hover((number - 0.5, number - 0.5 + every), said(number))
