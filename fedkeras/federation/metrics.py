"""The lines of history.csv that a round gives: one a client and phase, and their means."""

from collections.abc import Mapping
from statistics import median

from flwr.app import MetricRecord

from fedkeras.reports.history import AGGREGATES, BYTES, LOCAL_STEPS, NOT_AVERAGED

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


def add_means(
    rows: list[RowTable],
    server_round: int,
    phase: str,
    extra: MetricRecord | None,
    seconds: float,
    weights: Mapping[str, int] | None = None,
    robust: bool = False,
) -> None:
    """Append the line `all`: means over the clients' lines of this phase, if there are any.

    Each line counts by what `weights` gives its client, and by its examples without them; `robust`: all alike, and the
    median in the place of the mean, which fewer than half of them cannot move out of the range of the others. A metric
    that only some clients report is averaged over those. Metrics in `extra`, the strategy's own aggregate, are added
    where the clients report none of that name. `seconds` is the phase's wall time on the server, not a mean; examples,
    bytes and steps are added up.
    """
    clients = [line for line in rows if line["phase"] == phase and line["client"] not in AGGREGATES]
    if not clients:
        return
    total = sum(line["num_examples"] for line in clients)
    names = {name: None for line in clients for name in line if name not in NOT_AVERAGED}  # as a set with an order
    weights = weights or {line["client"]: line["num_examples"] for line in clients}
    means = {}
    for name in names:
        having = [line for line in clients if name in line]
        values = [line[name] for line in having]
        means[name] = median(values) if robust else _mean(values, [weights[line["client"]] for line in having])
    own = {name: value for name, value in (extra or {}).items() if column(name) not in {*NOT_AVERAGED, *names}}
    added = [name for name in (*BYTES, LOCAL_STEPS) if all(name in line for line in clients)]
    carried = {name: sum(line[name] for line in clients) for name in added}
    metrics = {"num_examples": total, **means, **own, "seconds": seconds, **carried}
    rows.append(row(server_round, phase, "all", metrics))


def _mean(values: list[float], weights: list[int]) -> float:
    return sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)
