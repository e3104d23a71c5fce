"""The report's section on privacy: epsilon and clipping by round, from the ledger."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedkeras.mods.client_dp.ledger import NAME, Entry, Terms, read
from fedkeras.reports.page import ReportSection, section
from fedkeras.reports.run_folder import RunFolder
from fedkeras.reports.svg import SERIES, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    return (
        ReportSection(table.title, draw(lambda axes: _paint(axes, terms, entries), "epsilon by round") + table.html),
    )


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
    return [spent, whose]


def _paint(axes: "Axes", terms: Terms, entries: Sequence[Entry]) -> None:
    places = range(1, len(entries) + 1)
    axes.plot(places, [entry.epsilon for entry in entries], color=SERIES[0], label="epsilon")
    if terms["budget"] is not None:
        axes.axhline(terms["budget"], color=SERIES[1], linestyle="--", label="budget")
        axes.legend(frameon=False)
    axes.set_xlabel("rounds paid for")
    axes.set_ylabel("epsilon")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
