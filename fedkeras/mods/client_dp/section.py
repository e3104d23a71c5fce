"""The report's section on privacy: epsilon and clipping by round, from the ledger."""

from collections.abc import Sequence

from markupsafe import Markup

from fedkeras.mods.client_dp.ledger import NAME, Entry, Terms, read
from fedkeras.reports.axes import Axes, number_axis, round_axis
from fedkeras.reports.colours import SERIES, css
from fedkeras.reports.page import ReportSection, section
from fedkeras.reports.run_folder import RunFolder

MOST_DOTS = 40
MOST = 100
"""Rounds in the table; of more, evenly spaced ones and the last."""


def of(folder: RunFolder) -> Sequence[ReportSection]:
    """One section; none where nothing was spent yet. Raises UserError for a damaged ledger."""
    path = folder.path / NAME
    if not path.exists():
        return ()
    terms, entries = read(path)
    if not entries:
        return ()
    every = -(-len(entries) // MOST)
    shown = entries[::every] + (entries[-1:] if (len(entries) - 1) % every else [])
    rows = [(entry.round, entry.epsilon, entry.bound, entry.share_within) for entry in shown]
    heads = "round", "epsilon so far", "clipping bound", "clients within it (noisy share)"
    table = section("Privacy", _words(terms, entries), heads, rows)
    pictures = [_epsilon(terms, entries), *_clipping(entries)]
    grid = Markup('<div class="grid">{}</div>').format(Markup("").join(pictures))
    return (ReportSection(table.title, grid + table.html),)


def _words(terms: Terms, entries: Sequence[Entry]) -> list[str]:
    budget = "no budget" if terms["budget"] is None else f"a budget of {terms['budget']:g}"
    spent = (
        f"Epsilon {entries[-1].epsilon:.4g} at delta {terms['delta']:g} was spent in {len(entries)} rounds, of "
        f"{budget}: noise {terms['noise']:.4g} on sums over clients of which each of {terms['clients']} is drawn with "
        f"probability {terms['rate']:.4g}."
    )
    whose = (
        "NOT PRIVATE: cohorts and noise came from the seed (study=true), which every client knows."
        if terms["study"]
        else "Protected is whether a client took part, against whoever sees the models, this page and history.csv; not "
        "against the server, and not by run.log, which names clients that failed."
    )
    counted = any(entry.share_within is not None for entry in entries)
    clipped = (
        "The share of updates within the clipping bound is noisy: the rest were scaled down to it. That noise is paid "
        "for in epsilon, and it may bring the share below 0 or above 1."
        if counted
        else "How many updates were longer than the bound, and so were scaled down, is kept out: with a fixed bound "
        "nothing is spent on counting them (clip=adaptive counts them, with noise)."
    )
    return [spent, clipped, whose]


def _epsilon(terms: Terms, entries: Sequence[Entry]) -> Markup:
    spent = [(float(place), entry.epsilon) for place, entry in enumerate(entries, start=1)]
    budget = [] if terms["budget"] is None else [float(terms["budget"])]
    height = number_axis([*budget, *(epsilon for _, epsilon in spent)], "epsilon", from_zero=True)
    axes = Axes("epsilon by rounds that were paid for", round_axis(1, len(spent), "rounds paid for"), height)
    axes.line(spent, css(SERIES[0]))
    axes.dots(spent if len(spent) <= MOST_DOTS else (), css(SERIES[0]))
    for value in budget:
        axes.line([(0.5, value), (len(spent) + 0.5, value)], css(SERIES[1]), dash="4 3")
        axes.text(0.5, value * 0.94, "budget", anchor="start", shift=4)
    for place, epsilon in spent:
        axes.hover((place - 0.5, place + 0.5), f"{epsilon:.4g}")
    return _card("Epsilon so far", axes)


def _clipping(entries: Sequence[Entry]) -> list[Markup]:
    """Share of updates within the bound, and the bound that follows it; nothing where it is fixed."""
    shares = {place: entry.share_within for place, entry in enumerate(entries, start=1)}
    known = [(float(place), share) for place, share in shares.items() if share is not None]
    if not known:
        return []
    bounds = [(float(place), entry.bound) for place, entry in enumerate(entries, start=1)]
    return [
        _by_round("Updates within the clipping bound (noisy share)", "share", known, [0.0, 1.0]),
        _by_round("Clipping bound", "length", bounds, [0.0]),
    ]


def _by_round(title: str, label: str, points: Sequence[tuple[float, float]], seen: Sequence[float]) -> Markup:
    height = number_axis([*seen, *(value for _, value in points)], label, from_zero=True)
    axes = Axes(f"{title} by rounds that were paid for", round_axis(1, int(points[-1][0]), "rounds paid for"), height)
    axes.line(points, css(SERIES[0]))
    axes.dots(points if len(points) <= MOST_DOTS else (), css(SERIES[0]))
    for place, value in points:
        axes.hover((place - 0.5, place + 0.5), f"{value:.4g}")
    return _card(title, axes)


def _card(title: str, axes: Axes) -> Markup:
    return Markup('<div class="card"><h3>{}</h3>{}</div>').format(title, axes.svg())
