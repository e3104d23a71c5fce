"""The lines of history.csv that a round gives: one a client and phase, and their means."""

from collections.abc import Mapping

from flwr.app import MetricRecord

from fedkeras.reports.history import BYTES, NOT_AVERAGED

RowTable = dict[str, int | float | str]
"""A line of history.csv while it is made."""


def column(metric: str) -> str:
    """A metric's column: dashes become underscores (Flower says `num-examples`, the column is `num_examples`)."""
    return metric.replace("-", "_")


def row(
    server_round: int, phase: str, client: str, metrics: Mapping[str, float], traffic: tuple[int, int] | None = None
) -> RowTable:
    """One line of history.csv. `traffic`: bytes up and down."""
    values = {column(name): value for name, value in metrics.items()}
    if "num_examples" in values:
        values["num_examples"] = int(values["num_examples"])  # a client may count in whole floats
    carried = dict(zip(BYTES, traffic, strict=True)) if traffic else {}
    return {"round": server_round, "phase": phase, "client": client, "num_examples": 0, **values, **carried}


def add_means(rows: list[RowTable], server_round: int, phase: str, extra: MetricRecord | None, seconds: float) -> None:
    """Append the line `all`: example-weighted means over the clients' lines of this phase, if there are any.

    A metric that only some clients report is averaged over those. Metrics in `extra`, the strategy's own aggregate,
    are added where the clients report none of that name. `seconds` is the phase's wall time on the server, not a mean;
    bytes are added up.
    """
    clients = [line for line in rows if line["phase"] == phase and line["client"] not in ("server", "all")]
    if not clients:
        return
    total = sum(line["num_examples"] for line in clients)
    names = {name: None for line in clients for name in line if name not in NOT_AVERAGED}  # as a set with an order
    means = {name: _mean(name, [line for line in clients if name in line]) for name in names}
    own = {name: value for name, value in (extra or {}).items() if column(name) not in {*NOT_AVERAGED, *names}}
    carried = {name: sum(line[name] for line in clients) for name in BYTES if all(name in line for line in clients)}
    metrics = {"num_examples": total, **means, **own, "seconds": seconds, **carried}
    rows.append(row(server_round, phase, "all", metrics))


def _mean(name: str, lines: list[dict]) -> float:
    return sum(line["num_examples"] * line[name] for line in lines) / sum(line["num_examples"] for line in lines)
