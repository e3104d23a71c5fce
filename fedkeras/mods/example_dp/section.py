"""The report's section on the privacy of examples: the worst and the median epsilon by round, and each client's."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from fedkeras.mods.example_dp.ledger import NAME, Account, SpentRound, read
from fedkeras.mods.example_dp.privacy_terms import Table
from fedkeras.reports.axes import Axes, number_axis, round_axis
from fedkeras.reports.colours import SERIES, css
from fedkeras.reports.page import ReportSection, section
from fedkeras.reports.run_folder import RunFolder

MOST_DOTS = 40
MOST_CLIENTS = 100
"""Clients in the table: those that have spent most."""


def of(folder: RunFolder) -> Sequence[ReportSection]:
    """One section; none where nobody was asked yet. Raises UserError for a damaged ledger."""
    path = folder.path / NAME
    if not path.exists():
        return ()
    terms, accounts, rounds, attempts = read(path)
    delta = float(terms["delta"])
    spent = {cid: account.epsilon(delta) for cid, account in accounts.items() if account.training is not None}
    order = sorted(spent, key=lambda cid: -spent[cid])[:MOST_CLIENTS]
    rows = [_row(cid, accounts[cid], spent[cid]) for cid in order]
    heads = "client", "examples", "rate of batches", "noise", "steps a round", "rounds asked", "epsilon at most"
    table = section("Privacy of examples", _words(terms, rounds, attempts, len(spent)), heads, rows)
    chart = _chart(terms, rounds) if any(entry.worst is not None for entry in rounds) else Markup("")
    return (ReportSection(table.title, chart + table.html),)


def _row(cid: int, account: Account, epsilon: float) -> Sequence[int | float]:
    training = account.training
    return cid, account.examples, training.rate, training.noise, training.steps, account.asked, epsilon


def _words(terms: Table, rounds: Sequence[SpentRound], attempts: int, clients: int) -> list[str]:
    budget = "no budget" if terms["budget"] is None else f"a budget of {terms['budget']:g}"
    if clients and rounds and rounds[-1].worst is not None:
        spent = (
            f"Epsilon {rounds[-1].worst:.4g} at delta {terms['delta']:g} for the client that spent most and "
            f"{rounds[-1].median:.4g} in the median of {clients}, of {budget}, in {attempts} rounds that were begun."
        )
    else:
        spent = (
            f"Single clients are kept from the server: each keeps to {budget} at delta {terms['delta']:g} by its own "
            f"count. {attempts} rounds were begun."
        )
    whose = (
        "NOT PRIVATE: batches and noise came from the seed (study=true), which the server knows."
        if terms["study"]
        else "Protected is each single example, against the server too; not how many examples a client has, and not "
        "what all of its examples have in common."
    )
    return [spent, whose]


def _chart(terms: Mapping[str, float | int | bool | None], rounds: Sequence[SpentRound]) -> Markup:
    known = [(float(place), entry) for place, entry in enumerate(rounds, start=1) if entry.worst is not None]
    budget = [] if terms["budget"] is None else [float(terms["budget"])]
    height = number_axis([*budget, *(entry.worst for _, entry in known)], "epsilon", from_zero=True)
    axes = Axes("epsilon by round", round_axis(1, len(rounds), "rounds"), height)
    for values, colour in (
        ([(place, entry.worst) for place, entry in known], css(SERIES[0])),
        ([(place, entry.median) for place, entry in known], css(SERIES[2])),
    ):
        axes.line(values, colour)
        axes.dots(values if len(values) <= MOST_DOTS else (), colour)
        axes.text(*values[-1], "worst" if colour == css(SERIES[0]) else "median", anchor="end", shift=-6)
    for value in budget:
        axes.line([(0.5, value), (len(rounds) + 0.5, value)], css(SERIES[1]), dash="4 3")
        axes.text(0.5, value * 0.94, "budget", anchor="start", shift=4)
    for place, entry in known:
        axes.hover((place - 0.5, place + 0.5), f"worst {entry.worst:.4g}, median {entry.median:.4g}")
    return Markup('<div class="card">{}</div>').format(axes.svg())
