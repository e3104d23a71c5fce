"""The figures of each client in a history: a line each for a table, and round by client for a heat map."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from numbers import Real

import numpy as np

from fedkeras.callbacks import Row
from fedkeras.reports.headline import finite
from fedkeras.reports.history import AGGREGATES

ClientFigures = dict[str, float | str | None]
"""A line of `client_table`."""


def client_rows(rows: Iterable[Row], phase: str) -> list[Row]:
    """The clients' own rows of a phase."""
    return [row for row in rows if row["phase"] == phase and row["client"] not in AGGREGATES]


def judged(rows: list[Row], metric: str) -> tuple[list[Row], str]:
    """The clients' rows by which they are judged, and their origin: evaluation, or training if there is none."""
    for phase, where in (("evaluate", "what the client held out"), ("train", "the client's training")):
        chosen = [row for row in client_rows(rows, phase) if isinstance(row.get(metric), Real)]
        if chosen:
            return chosen, where
    return [], ""


def in_order(clients: Iterable[str]) -> list[str]:
    """Client ids by their numbers."""
    return sorted(set(clients), key=lambda cid: (len(cid), cid))


def matrix(rows: list[Row], metric: str) -> tuple[np.ndarray, int, list[str]]:
    """The metric as (clients, rounds), NaN where there is none; the first column's round; the clients."""
    clients = in_order(row["client"] for row in rows)
    first, last = min(row["round"] for row in rows), max(row["round"] for row in rows)
    place = {cid: number for number, cid in enumerate(clients)}
    values = np.full((len(clients), last - first + 1), np.nan)
    for row in rows:
        if isinstance(row.get(metric), Real):
            values[place[row["client"]], row["round"] - first] = row[metric]
    return values, first, clients


def client_table(rows: list[Row], failures: list[Row], metric: str) -> list[ClientFigures]:
    """One line a client: examples, rounds, failures, the metric's last, best and worst value, mean seconds a round."""
    trained, tested, seconds, values = Counter(), {}, defaultdict(list), defaultdict(list)
    examples: dict[str, int] = {}
    for row in client_rows(rows, "train"):
        trained[row["client"]] += 1
        examples[row["client"]] = row["num_examples"]
        seconds[row["client"]].append(finite(row.get("seconds")) or 0.0)
    for row in client_rows(rows, "evaluate"):
        tested[row["client"]] = row["num_examples"]
    for row in sorted(judged(rows, metric)[0], key=lambda row: row["round"]):
        values[row["client"]].append(finite(row[metric]))
    failed = Counter(str(row.get("client", "")) for row in failures)
    return [
        {
            "client": cid,
            "examples": examples.get(cid),
            "tested": tested.get(cid),
            "rounds": trained[cid],
            "failures": failed[cid],
            "last": values[cid][-1] if values[cid] else None,
            "highest": max((value for value in values[cid] if value is not None), default=None),
            "lowest": min((value for value in values[cid] if value is not None), default=None),
            "seconds": float(np.mean(seconds[cid])) if seconds[cid] else None,
        }
        for cid in in_order([*trained, *tested, *failed])
    ]
