"""Where a run's time went, round by round, from timing.csv and the clients' own seconds in history.csv.

The server measures when messages leave and when answers arrive, and the clients report how long they computed. The
difference is the transfer: the messages' way in both directions, checks, and the wait for a free process where a
process serves several clients.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from fedkeras.callbacks import Row
from fedkeras.reports.client_figures import client_rows
from fedkeras.reports.headline import finite
from fedkeras.reports.history import PART_OF_PHASE, PARTS

MEANINGS = {
    "waiting": "for clients to be connected",
    "training": "the slowest client's computing",
    "transfer": "from the first message to the last answer, less the training: transfer, checks, queues",
    "aggregation": "from the last answer to the new model",
    "evaluation": "on the clients and, meanwhile, on the server",
}
"""What the parts of a round are, in their order: those of timing.csv, and `transfer`, which is taken off `training`."""
assert {*MEANINGS} == {*PARTS, "transfer"}


def breakdown(timing: Sequence[Row], rows: list[Row], processes: int = 0) -> list[Row]:
    """A line a round: {"round": 3, "waiting": seconds, ...}, with all of MEANINGS.

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
        line = {"round": known["round"], **{name: known.get(name, 0.0) for name in MEANINGS}}
        lines.append({**line, "training": training, "transfer": wall - training})
    return lines


def totals(lines: Iterable[Row], whole: float | None) -> list[Row]:
    """Seconds and share of each part over all rounds, and of what is in none of them. `whole`: the run's seconds."""
    lines = list(lines)
    sums = {name: sum(line[name] for line in lines) for name in MEANINGS}
    parts = [{"name": name, "seconds": sums[name], "what": what} for name, what in MEANINGS.items()]
    rest = (whole or 0.0) - sum(sums.values())
    if rest > 0:
        what = "before the first round, between rounds (checkpoints, records), after the last"
        parts.append({"name": "the rest", "seconds": rest, "what": what})
    total = sum(part["seconds"] for part in parts) or 1.0
    return [part | {"share": part["seconds"] / total} for part in parts]


def _from_history(rows: Iterable[Row]) -> list[Row]:
    walls: dict[int, dict[str, float]] = {}
    for row in rows:
        if row["client"] == "all" or (row["client"] == "server" and row["phase"] == "evaluate"):
            name = PART_OF_PHASE[row["phase"]]
            wall = walls.setdefault(row["round"], {"round": row["round"]})
            wall[name] = max(wall.get(name, 0.0), finite(row.get("seconds")) or 0.0)
    return [walls[number] for number in sorted(walls)]
