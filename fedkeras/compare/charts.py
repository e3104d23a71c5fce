"""A comparison's pictures on its page: drawn straight as SVG, with their figures for who points at them."""

import statistics
from collections.abc import Sequence

from fedkeras.compare import series
from fedkeras.compare.arm_run import ArmResult
from fedkeras.compare.differences import PairedDifference, is_share
from fedkeras.compare.pictures import CENTRAL, DIFFERENCES, MOST_BARS, OWN, end_of, height_of
from fedkeras.reports.axes import INK, Axes, Axis, number_axis, round_axis
from fedkeras.reports.charts import MOST_DOTS, Chart, Key, named_bars, run_keys, say_steps, values_said
from fedkeras.reports.headline import figure

DIAMOND = 0.13
"""Half its height, in rows."""


def legend(results: Sequence[ArmResult]) -> dict[str, Key]:
    """A line an arm, as the page takes it."""
    return run_keys(dict.fromkeys(result.arm for result in results))


def curves(results: Sequence[ArmResult]) -> list[Chart]:
    """The measured metrics by round: means over seeds, and a band from the lowest to the highest."""
    return [
        _curve(series.CURVES[metric], series.bands(results, metric), legend(results))
        for metric in series.measured(results)
    ]


def _curve(title: str, bands: dict[str, series.Band], keys: dict[str, Key]) -> Chart:
    rounds = sorted({number for band in bands.values() for number in band.rounds})
    if len(rounds) == 1:
        values = {arm: band.means[0] for arm, band in bands.items() if band.means}
        return Chart(title, named_bars(title, values, {arm: keys[arm].colour for arm in values}))
    known = [value for band in bands.values() for value in (*band.lows, *band.highs)]
    axes = Axes(f"{title} by round, a line an arm", round_axis(rounds[0], rounds[-1]), number_axis(known))
    for arm, band in bands.items():
        if band.lows != band.highs:
            edge = [*zip(band.rounds, band.lows, strict=True), *reversed([*zip(band.rounds, band.highs, strict=True)])]
            axes.area(edge, keys[arm].colour, 0.16)
    for arm, band in bands.items():
        points = list(zip(band.rounds, band.means, strict=True))
        axes.line(points, keys[arm].colour, 1.8, keys[arm].dash)
        if len(rounds) <= MOST_DOTS:
            axes.dots(points, keys[arm].colour)
    means = {arm: dict(zip(band.rounds, band.means, strict=True)) for arm, band in bands.items()}
    say_steps(axes, rounds, lambda n: values_said(f"round {n}", {arm: own.get(n) for arm, own in means.items()}))
    return Chart(title, axes.svg())


def clients(results: Sequence[ArmResult]) -> list[Chart]:
    """The figures by client; none without any."""
    made = []
    if any(result.own for result in results):
        made.append(_by_client(OWN, results, "own"))
    if any(result.central for result in results):
        made.append(_by_client(CENTRAL, results, "central", series.single_models(results)))
    return made


def _by_client(title: str, results: Sequence[ArmResult], what: str, across: dict[str, float] | None = None) -> Chart:
    """Of few clients a bar an arm, its line from the lowest to the highest seed; of more a ranked line an arm.

    `across` are arms with one figure for all: a line from side to side.
    """
    keys, values, lines = legend(results), series.by_client(results, what), across or {}
    cids = series.clients_of(values)
    if len(cids) > MOST_BARS:
        ranked = series.ranked(results, what)
        known = [value for own in ranked.values() for value in own] + [*lines.values()]
        axis = round_axis(1, max(map(len, ranked.values())), "clients, from the lowest to the highest")
        axes = Axes(title, axis, number_axis(known))
        for arm, own in ranked.items():
            axes.line(enumerate(own, 1), keys[arm].colour, 1.8, keys[arm].dash)
        places = range(1, max(map(len, ranked.values())) + 1)
        named = {arm: dict(enumerate(own, 1)) for arm, own in ranked.items()}
        say_steps(axes, places, lambda n: values_said(f"place {n}", {arm: own.get(n) for arm, own in named.items()}))
    else:
        x = Axis(-0.5, len(cids) - 0.5, [*enumerate(cids)], "client")
        y = Axis(0.0, 1.02, [(tick / 5, f"{tick / 5:.1f}") for tick in range(6)])
        axes = Axes(title, x, y, grid="y")
        width = 0.8 / len(values)
        for place, (arm, own) in enumerate(values.items()):
            for number, cid in enumerate(cids):
                if cid in own:
                    left = number - 0.4 + (place + 0.05) * width
                    said = f"client {cid}, {arm}: {figure(statistics.fmean(own[cid]))}"
                    axes.box((left, left + 0.9 * width), (0, statistics.fmean(own[cid])), keys[arm].colour, title=said)
                    middle = left + 0.45 * width
                    axes.line([(middle, min(own[cid])), (middle, max(own[cid]))], INK, 1.1)
    for arm, value in lines.items():
        axes.line([(axes.low_x, value), (axes.high_x, value)], keys[arm].colour, 1.6, keys[arm].dash)
    return Chart(title, axes.svg())


def differences(results: Sequence[ArmResult], found: Sequence[PairedDifference]) -> list[Chart]:
    """A row a difference: a dot a seed, the mean with its interval, filled where it excludes zero; none without any."""
    shown = [one for one in found if one.low is not None]
    if not shown:
        return []
    keys, scale = legend(results), 100 if is_share(shown[0].metric) else 1
    title, unit = DIFFERENCES[shown[0].metric]
    known = [scale * value for one in shown for value in (one.low, one.high, *one.values)]
    x = number_axis([0.0, *known], unit)
    axes = Axes(title, x, Axis(len(shown) - 0.6, -0.7, []), height=height_of(found), grid="x")
    wide = 0.014 * (x.high - x.low)
    for place, one in enumerate(shown):
        colour, mean = keys[one.arm].colour, scale * one.mean
        axes.line([(0, place - 0.24), (0, place + 0.24)], INK, 1)
        axes.line([(scale * one.low, place), (scale * one.high, place)], colour, 2)
        for end in (one.low, one.high):
            axes.line([(scale * end, place - 0.12), (scale * end, place + 0.12)], colour, 2)
        diamond = [(mean - wide, place), (mean, place - DIAMOND), (mean + wide, place), (mean, place + DIAMOND)]
        axes.area(diamond, colour if one.shown else "var(--card)")
        axes.line([*diamond, diamond[0]], colour, 1.4)
        axes.dots([(scale * value, place) for value in one.values], INK, 1.6, 0.55)
        # Above the interval and not beside it: on a telephone names would take the axis' place
        name = f"{end_of(one.arm)} \N{MINUS SIGN} {end_of(one.other)}"
        axes.text(axes.low_x, place - 0.36, name, "start", shift=3)
        said = f"{one.arm} \N{MINUS SIGN} {one.other}: {mean:.3g}, from {scale * one.low:.3g} to {scale * one.high:.3g}"
        axes.hover((axes.low_x, axes.high_x), said, (place - 0.5, place + 0.5))
    return [Chart(title, axes.svg())]
