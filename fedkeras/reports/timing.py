"""Where a run's time went, round by round, from timing.csv and the clients' own seconds in history.csv.

The server sees when messages leave and answers come; the clients say how long they computed. Between the two is the way
there and back, with waiting for a process that is free where processes serve several clients.
"""

from collections import defaultdict
from collections.abc import Iterable

from fedkeras.reports.client_figures import client_rows
from fedkeras.reports.headline import finite
from fedkeras.reports.history import Row

PARTS = {
    "waiting": "for clients to be connected",
    "training": "the slowest client's computing",
    "transfer": "from the first message to the last answer, less the training: transfer, checks, queues",
    "aggregation": "from the last answer to the new model",
    "evaluation": "on the clients and, meanwhile, on the server",
}
"""Parts of a round, in the order in which they come, and what they are."""


def breakdown(timing: list[dict], rows: list[Row], processes: int = 0) -> list[dict]:
    """A line a round: {"round": 3, "waiting": seconds, ...}, with all of PARTS.

    `processes` that share the clients (0: each has its own) compute at least the clients' seconds together, divided by
    their number. Without timing.csv the history's wall times are taken, whose transfer is all that is not training.
    """
    computing = defaultdict(list)
    for row in client_rows(rows, "train"):
        computing[row["round"]].append(finite(row.get("seconds")) or 0.0)
    lines = []
    for known in timing or _from_history(rows):
        own = computing[known["round"]]
        least = max([*own, sum(own) / processes if processes else 0.0], default=0.0)
        wall = known.get("training", 0.0)
        training = min(least, wall)
        line = {"round": known["round"], **{name: known.get(name, 0.0) for name in PARTS}}
        lines.append({**line, "training": training, "transfer": wall - training})
    return lines


def totals(lines: Iterable[dict], whole: float | None) -> list[dict]:
    """Seconds and share of each part over all rounds, and of what is in none of them. `whole`: the run's seconds."""
    lines = list(lines)
    sums = {name: sum(line[name] for line in lines) for name in PARTS}
    parts = [{"name": name, "seconds": sums[name], "what": what} for name, what in PARTS.items()]
    rest = (whole or 0.0) - sum(sums.values())
    if rest > 0:
        what = "before the first round, between rounds (checkpoints, records), after the last"
        parts.append({"name": "the rest", "seconds": rest, "what": what})
    total = sum(part["seconds"] for part in parts) or 1.0
    return [part | {"share": part["seconds"] / total} for part in parts]


def _from_history(rows: list[Row]) -> list[dict]:
    walls: dict[int, dict] = {}
    for row in rows:
        if row["client"] == "all" or (row["client"] == "server" and row["phase"] == "evaluate"):
            name = "training" if row["phase"] == "train" else "evaluation"
            wall = walls.setdefault(row["round"], {"round": row["round"]})
            wall[name] = max(wall.get(name, 0.0), finite(row.get("seconds")) or 0.0)
    return [walls[number] for number in sorted(walls)]
