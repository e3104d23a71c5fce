"""A comparison's pictures as .png files; those of its page are charts.py's."""

import io
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fedkeras.compare import series
from fedkeras.compare.arm_run import ArmResult
from fedkeras.compare.differences import PairedDifference, is_share
from fedkeras.reports.charts import run_colours
from fedkeras.reports.curves import GRID, INK, marker

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
    "own accuracy": (
        "Differences in accuracy on clients' own examples",
        "points that the first arm is above the second",
    ),
    "loss": ("Differences in loss, same seed by same seed", "loss that the first arm is below the second"),
}

Paint = Callable[["Axes"], None]


def colours_of(results: Sequence[ArmResult]) -> dict[str, str]:
    """A colour an arm."""
    return run_colours(dict.fromkeys(result.arm for result in results))


def curves(results: Sequence[ArmResult]) -> dict[str, Paint]:
    """{title: painter} of the measured metrics: means over seeds, and a band from the lowest to the highest."""
    shown = series.measured(results)
    return {series.CURVES[name]: lambda axes, name=name: _paint_curves(axes, results, name) for name in shown}


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


def _paint_curves(axes: "Axes", results: Sequence[ArmResult], metric: str) -> None:
    colours = colours_of(results)
    for place, (arm, band) in enumerate(series.bands(results, metric).items()):
        style = {"color": colours[arm], "linewidth": 1.8, "linestyle": STYLES[place % len(STYLES)], "zorder": 3}
        axes.plot(band.rounds, band.means, marker=marker(band.rounds), markersize=3.5, **style)
        if band.lows != band.highs:
            axes.fill_between(band.rounds, band.lows, band.highs, color=colours[arm], **BAND)
    axes.set_xlabel("round")
    _finish(axes)


def _paint_differences(
    axes: "Axes", results: Sequence[ArmResult], found: Sequence[PairedDifference], unit: str
) -> None:
    """A row a difference: a dot a seed, the mean with its interval; filled where it excludes zero."""
    colours, scale = colours_of(results), 100 if is_share(found[0].metric) else 1
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
        title, start = f"{end_of(one.arm)} \N{MINUS SIGN} {end_of(one.other)}", (0, place - 0.36)
        beside = {"xycoords": axes.get_yaxis_transform(), "xytext": (3, 0), "textcoords": "offset points"}
        axes.annotate(title, start, va="center", fontsize=10, **beside)
    axes.set_ylim(len(found) - 0.6, -0.7)
    axes.set_yticks([])
    axes.set_xlabel(unit)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def end_of(arm: str) -> str:
    """Of a long name its end, where the class stands: two of them fit into a line."""
    return arm if len(arm) <= LETTERS else f"…{arm[1 - LETTERS :]}"


def _paint_clients(axes: "Axes", results: Sequence[ArmResult], what: str) -> None:
    values, colours = series.by_client(results, what), colours_of(results)
    cids = series.clients_of(values)
    if len(cids) > MOST_BARS:
        for arm, means in series.ranked(results, what).items():
            axes.plot(range(1, len(means) + 1), means, color=colours[arm], linewidth=1.8)
        axes.set_xlabel("clients, from the lowest to the highest")
        _finish(axes)
        return
    width = 0.8 / len(values)
    for place, (arm, own) in enumerate(values.items()):
        for number, cid in enumerate(cids):
            if cid in own:
                _bar(axes, number - 0.4 + (place + 0.5) * width, width, own[cid], colours[arm])
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
    across = series.single_models(results)
    for place, (arm, colour) in enumerate(colours.items()):
        if arm in across:
            axes.axhline(across[arm], color=colour, linewidth=1.6, linestyle=STYLES[place % len(STYLES)])


def _finish(axes: "Axes", bars: bool = False) -> None:
    if bars:
        axes.set_ylim(0, 1.02)
    else:
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y" if bars else "both", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
