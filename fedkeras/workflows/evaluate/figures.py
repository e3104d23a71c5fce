"""What an evaluation came to, as a table for the terminal: each client, the worst tenth, the mean, the central test."""

from collections.abc import Sequence
from statistics import fmean

from fedkeras.callbacks import Row
from fedkeras.reports.fairness import badness, worst_share
from fedkeras.reports.headline import figure, finite
from fedkeras.reports.history import AGGREGATES
from fedkeras.reports.text_table import text_table

WIDTH = 80
MOST_CLIENTS = 40
"""Of more clients only as many are listed, those with the worst figures."""


def table(rows: Sequence[Row], robust: bool = False) -> list[str]:
    """Lines of at most 80 columns from the rows of one evaluation; `robust`: the row `all` has medians."""
    clients = [row for row in rows if str(row["client"]) not in AGGREGATES]
    shown = sorted(clients, key=badness)[:MOST_CLIENTS] if len(clients) > MOST_CLIENTS else clients
    lines = [_line(str(row["client"]), row) for row in sorted(shown, key=lambda row: int(row["client"]))]
    if clients:
        worst = worst_share(clients)
        means = {name: _mean(worst, name) for name in ("loss", "accuracy")}
        count = f"{len(worst)} client" + "s" * (len(worst) > 1)
        lines.append(
            _line(f"worst 10 % ({count})", {"num_examples": sum(row["num_examples"] for row in worst), **means})
        )
    names = {"all": "median of clients" if robust else "mean of clients", "server": "central test set"}
    lines += [_line(name, row) for own, name in names.items() for row in rows if row["client"] == own]
    found = text_table([("client", "examples", "loss", "accuracy"), *lines], width=WIDTH)
    if len(shown) < len(clients):
        found.append(f"the {len(shown)} worst of {len(clients)} clients; all are in history.csv")
    return found


def _mean(rows: Sequence[Row], name: str) -> float | None:
    """The plain mean over clients; None where one of them has no such figure."""
    values = [finite(row.get(name)) for row in rows]
    return None if None in values else fmean(values)


def _line(name: str, row: Row) -> tuple[str, ...]:
    return name, str(row["num_examples"]), figure(row.get("loss")), figure(row.get("accuracy"))
