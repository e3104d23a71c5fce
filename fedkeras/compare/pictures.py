"""A comparison's pictures, painted once for the page (SVG) and for the .png files alike."""

import io
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fedkeras.compare.arm_run import ArmResult, CurvePoint
from fedkeras.compare.differences import PairedDifference
from fedkeras.reports.charts import Chart, Key, run_colours, run_keys
from fedkeras.reports.curves import GRID, INK, marker
from fedkeras.reports.svg import draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_BARS = 12
"""Clients up to which each has its bars; more are ranked, a line an arm."""
BAND = {"linewidth": 0, "alpha": 0.16, "zorder": 1}
STYLES = ("-", "--", ":", "-.")
"""Arms' lines differ by more than colour: matplotlib's names of the page's dashes, in their order."""
CENTRAL = "Each client's model alone, on the central test set"
OWN = "On each client's own held-out examples"
PNG_HEIGHT = 302
LETTERS = 30
ROW = 34
"""Points of height that a difference takes: its name, and below it its interval."""
DIFFERENCES = {
    "accuracy": ("Differences in accuracy, same seed by same seed", "points that the first arm is above the second"),
    "loss": ("Differences in loss, same seed by same seed", "loss that the first arm is below the second"),
}

Paint = Callable[["Axes"], None]


def colours_of(results: Sequence[ArmResult]) -> dict[str, str]:
    """A colour an arm."""
    return run_colours(dict.fromkeys(result.arm for result in results))


def curves(results: Sequence[ArmResult]) -> dict[str, Paint]:
    """{title: painter} of the measured metrics: means over seeds, and a band from the lowest to the highest."""
    titles = {"accuracy": "Accuracy on the central test set", "loss": "Loss on the central test set"}
    measured = [name for name in titles if any(point[name] is not None for one in results for point in one.curve)]
    return {titles[name]: lambda axes, name=name: _paint_curves(axes, results, name) for name in measured}


def clients(results: Sequence[ArmResult]) -> dict[str, Paint]:
    """{title: painter} of the figures by client; empty without any."""
    made: dict[str, Paint] = {}
    if any(result.own for result in results):
        made[OWN] = lambda axes: _paint_clients(axes, results, "own")
    if any(result.central for result in results):
        made[CENTRAL] = lambda axes: _paint_central(axes, results)
    return made


def differences(results: Sequence[ArmResult], found: Sequence[PairedDifference]) -> dict[str, Paint]:
    """{title: painter} of the intervals; empty where there is none."""
    shown = [one for one in found if one.low is not None]
    if not shown:
        return {}
    title, unit = DIFFERENCES[shown[0].metric]
    return {title: lambda axes: _paint_differences(axes, results, shown, unit)}


def height_of(found: Sequence[PairedDifference]) -> float:
    """The picture's height in points."""
    return 60 + ROW * sum(one.low is not None for one in found)


def charts_of(painters: dict[str, Paint], height: float = 250) -> list[Chart]:
    """For the page; `height` in points."""
    return [Chart(title, draw(paint, title, height)) for title, paint in painters.items()]


def png(
    painters: dict[str, Paint], results: Sequence[ArmResult], height: float = PNG_HEIGHT, legend: bool = True
) -> bytes:
    """All of them side by side, with one legend; `height` in points."""
    # Figure without pyplot: no global state and no display
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    style = {"font.size": 10, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": "#999999"}
    with rc_context(style | {"text.parse_math": False}):
        figure = Figure(figsize=(5.4 * len(painters), height / 72), dpi=150, layout="constrained")
        panels = figure.subplots(1, len(painters), squeeze=False)[0]
        for axes, (title, paint) in zip(panels, painters.items(), strict=True):
            paint(axes)
            axes.set_title(title, fontsize=10.5, loc="left")
        if legend:
            handles = [Patch(color=colour, label=arm) for arm, colour in colours_of(results).items()]
            figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)), frameon=False)
        out = io.BytesIO()
        figure.savefig(out, format="png")
    return out.getvalue()


def legend(results: Sequence[ArmResult]) -> dict[str, Key]:
    """As the page takes it."""
    return run_keys(dict.fromkeys(result.arm for result in results))


def _paint_curves(axes: "Axes", results: Sequence[ArmResult], metric: str) -> None:
    for place, (arm, colour) in enumerate(colours_of(results).items()):
        by_round: dict[int, list[CurvePoint]] = {}
        for result in results:
            for point in result.curve if result.arm == arm else ():
                if point[metric] is not None:
                    by_round.setdefault(point["round"], []).append(point)
        rounds = sorted(by_round)
        means = [statistics.fmean(point[metric] for point in by_round[number]) for number in rounds]
        style = {"color": colour, "linewidth": 1.8, "linestyle": STYLES[place % len(STYLES)], "zorder": 3}
        axes.plot(rounds, means, marker=marker(rounds), markersize=3.5, **style)
        low, high = ("lowest", "highest") if metric == "accuracy" else (metric, metric)
        lows = [min(point.get(low, point[metric]) for point in by_round[number]) for number in rounds]
        highs = [max(point.get(high, point[metric]) for point in by_round[number]) for number in rounds]
        if lows != highs:
            axes.fill_between(rounds, lows, highs, color=colour, **BAND)
    axes.set_xlabel("round")
    _finish(axes)


def _paint_differences(
    axes: "Axes", results: Sequence[ArmResult], found: Sequence[PairedDifference], unit: str
) -> None:
    """A row a difference: a dot a seed, the mean with its interval; filled where it excludes zero."""
    colours, scale = colours_of(results), 100 if found[0].metric == "accuracy" else 1
    for place, one in enumerate(found):
        colour = colours[one.arm]
        axes.plot([scale * one.low, scale * one.high], [place, place], color=colour, linewidth=2, zorder=2)
        for end in (one.low, one.high):
            axes.plot([scale * end] * 2, [place - 0.12, place + 0.12], color=colour, linewidth=2, zorder=2)
        dots = [scale * value for value in one.values]
        axes.plot(dots, [place] * len(dots), "o", color=INK, markersize=3, alpha=0.55, zorder=4, linewidth=0)
        face = colour if one.shown else "none"
        axes.plot(scale * one.mean, place, "D", color=colour, markerfacecolor=face, markersize=7, zorder=3)
        axes.plot([0, 0], [place - 0.24, place + 0.24], color=INK, linewidth=1, zorder=1)
        # Above the interval and not beside it: on a telephone names would take the axis' place
        title, start = f"{_end_of(one.arm)} \N{MINUS SIGN} {_end_of(one.other)}", (0, place - 0.36)
        beside = {"xycoords": axes.get_yaxis_transform(), "xytext": (3, 0), "textcoords": "offset points"}
        axes.annotate(title, start, va="center", fontsize=10, **beside)
    axes.set_ylim(len(found) - 0.6, -0.7)
    axes.set_yticks([])
    axes.set_xlabel(unit)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _end_of(arm: str) -> str:
    """Of a long name its end, where the class stands: two of them fit into a line."""
    return arm if len(arm) <= LETTERS else f"…{arm[1 - LETTERS :]}"


def _paint_clients(axes: "Axes", results: Sequence[ArmResult], what: str) -> None:
    arms = {arm: [one for one in results if one.arm == arm and getattr(one, what)] for arm in colours_of(results)}
    arms = {arm: group for arm, group in arms.items() if group}
    colours = colours_of(results)
    cids = sorted({cid for group in arms.values() for one in group for cid in getattr(one, what)}, key=int)
    if len(cids) > MOST_BARS:
        for arm, group in arms.items():
            ranked = [sorted(getattr(one, what).values()) for one in group]
            shortest = min(map(len, ranked))
            means = [statistics.fmean(values[place] for values in ranked) for place in range(shortest)]
            axes.plot(range(1, shortest + 1), means, color=colours[arm], linewidth=1.8)
        axes.set_xlabel("clients, from the lowest to the highest")
        _finish(axes)
        return
    width = 0.8 / len(arms)
    for place, (arm, group) in enumerate(arms.items()):
        for number, cid in enumerate(cids):
            values = [getattr(one, what)[cid] for one in group if cid in getattr(one, what)]
            if values:
                _bar(axes, number - 0.4 + (place + 0.5) * width, width, values, colours[arm])
    axes.set_xticks(range(len(cids)), cids)
    axes.set_xlabel("client")
    _finish(axes, bars=True)


def _bar(axes: "Axes", x: float, width: float, values: Sequence[float], colour: str) -> None:
    """The mean, with a line from the lowest to the highest seed."""
    axes.bar(x, statistics.fmean(values), width * 0.9, color=colour)
    if len(values) > 1:
        axes.plot([x, x], [min(values), max(values)], color=INK, linewidth=1.1, solid_capstyle="butt")


def _paint_central(axes: "Axes", results: Sequence[ArmResult]) -> None:
    """The clients' own models as bars; what the other arms' one model reaches, as lines across."""
    _paint_clients(axes, [result for result in results if result.central], "central")
    colours = colours_of(results)
    for bar in axes.patches:
        bar.set_facecolor(colours["local"])
    for line in axes.lines if not axes.patches else ():
        line.set_color(colours["local"])
    for place, (arm, colour) in enumerate(colours.items()):
        values = [one.accuracy for one in results if one.arm == arm and not one.central]
        if values and None not in values:
            axes.axhline(statistics.fmean(values), color=colour, linewidth=1.6, linestyle=STYLES[place % len(STYLES)])


def _finish(axes: "Axes", bars: bool = False) -> None:
    if bars:
        axes.set_ylim(0, 1.02)
    else:
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y" if bars else "both", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
