"""The lines of history.csv that a round gives: one a client and phase, and their means."""

from collections.abc import Mapping

from flwr.app import MetricRecord

KEYS = ("round", "phase", "client")
"""Columns that say which line it is; a metric cannot have these names."""

NOT_AVERAGED = (*KEYS, "num_examples", "seconds")


def column(metric: str) -> str:
    """A metric's column: dashes become underscores (Flower says `num-examples`, the column is `num_examples`)."""
    return metric.replace("-", "_")


def row(server_round: int, phase: str, client: str, metrics: Mapping[str, float]) -> dict:
    """One line of history.csv."""
    values = {column(name): value for name, value in metrics.items()}
    return {"round": server_round, "phase": phase, "client": client, "num_examples": 0, **values}


def add_means(rows: list[dict], server_round: int, phase: str, extra: MetricRecord | None, seconds: float) -> None:
    """Append the line `all`: example-weighted means over the clients' lines of this phase, if there are any.

    A metric that only some clients report is averaged over those. Metrics in `extra`, the strategy's own aggregate,
    are added where the clients report none of that name. `seconds` is the phase's wall time on the server, not a mean.
    """
    clients = [line for line in rows if line["phase"] == phase and line["client"].isdigit()]
    if not clients:
        return
    total = sum(line["num_examples"] for line in clients)
    names = {name: None for line in clients for name in line if name not in NOT_AVERAGED}  # as a set with an order
    means = {name: _mean(name, [line for line in clients if name in line]) for name in names}
    own = {name: value for name, value in (extra or {}).items() if column(name) not in {*NOT_AVERAGED, *names}}
    rows.append(row(server_round, phase, "all", {"num_examples": total, **means, **own, "seconds": seconds}))


def _mean(name: str, lines: list[dict]) -> float:
    return sum(line["num_examples"] * line[name] for line in lines) / sum(line["num_examples"] for line in lines)
