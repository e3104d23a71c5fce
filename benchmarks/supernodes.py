"""Seconds a round on Flower's SuperLink with three SuperNodes: Flower's own isolation, and warm ones, in turns.

    python -m benchmarks.supernodes [--variants cold,warm] [--blocks 1] [--rounds 4] [--cold-rounds 2]

A block is a run of digits on `flower-supernode` and one on `fedkeras supernode`, at one SuperLink. The first round of a
run is left out: there clients trace their graphs. Where a round's seconds go is read from the lines that the SuperNodes
print: per message, how long a node waited for it (of Flower's, up to 3 s until it asks; the other clients; the
server), had it worked on, and took to take it in and to send the answer. Prints medians and a line of JSON.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from benchmarks.case import Case
from fedkeras.reports import read_rows

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from superlink import Deployment, Line

QUICK = [Case("--variants warm --rounds 4", 60)]
NAMES = {"cold": "flower-supernode", "warm": "fedkeras supernode"}
PARTS = {
    "Receiving: ": "waiting_seconds",
    "Received successfully": "receiving_seconds",
    "Sending: ": "working_seconds",
    "Sent successfully": "sending_seconds",
}
"""A line that a SuperNode prints, and what has gone on since the one before it."""


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", default=",".join(NAMES))
    parser.add_argument("--blocks", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--cold-rounds", type=int, default=2)
    flags = parser.parse_args()
    rounds = {"cold": flags.cold_rounds, "warm": flags.rounds}
    if min(rounds.values()) < 2:
        parser.error("a run needs two rounds: the first one is left out")
    found: dict[str, dict[str, list[float]]] = {name: {} for name in flags.variants.split(",")}
    for _ in range(flags.blocks):
        for name, figures in found.items():
            for figure, values in measured(name == "warm", rounds[name]).items():
                figures.setdefault(figure, []).extend(values)
    show(found)
    medians = {
        name: {figure: round(statistics.median(values), 3) for figure, values in figures.items()}
        for name, figures in found.items()
    }
    for name, figures in found.items():
        medians[name]["blocks"] = {"round_seconds": [round(each, 2) for each in figures["round_seconds"]]}
    print(json.dumps(medians))


def measured(warm: bool, rounds: int) -> dict[str, list[float]]:
    """One run: the seconds of its rounds after the first, those of a message's parts, and of the clients' own work."""
    with tempfile.TemporaryDirectory(prefix="fedkeras-bench-") as name:
        folder = Path(name)
        with Deployment(folder) as deployment:
            deployment.start_nodes(warm)
            said = deployment.flwr_run({"num-server-rounds": rounds, "run-dir": str(folder / "runs")})
            if not list(folder.glob("runs/*/model.keras")):
                sys.exit(f"the run failed:\n{said}\n{deployment.logs()}")
            (history,) = folder.glob("runs/*/history.csv")
            rows = [row for row in read_rows(history) if row["round"] > 1 and row["client"] != "server"]
        figures = parts(deployment.lines, deployment.clients)
    phases = [row["seconds"] for row in rows if row["client"] == "all"]
    figures["round_seconds"] = [train + test for train, test in zip(phases[::2], phases[1::2], strict=True)]
    figures["own_seconds"] = [row["seconds"] for row in rows if row["client"] != "all"]
    return figures


def parts(lines: Iterable[Line], clients: int) -> dict[str, list[float]]:
    """Seconds of each part of a message, of those of the second round and later, at every node."""
    found: dict[str, list[float]] = {part: [] for part in PARTS.values()}
    lines = list(lines)
    for node in range(1, clients + 1):
        last, number = 0.0, 0
        for line in (line for line in lines if line.who == node):
            if "ROUND " in line.text:
                number = int(line.text.rpartition("ROUND ")[2].split("]")[0])
            part = next((part for text, part in PARTS.items() if text in line.text), None)
            if part is not None:
                if number > 1:
                    found[part].append(line.when - last)
                last = line.when
    return found


def show(found: dict[str, dict[str, list[float]]]) -> None:
    """The table."""
    columns = ["round", "waiting", "receiving", "working", "sending", "own"]
    print(f"{'':<20}" + "".join(f"{column:>11}" for column in columns) + "   (a round has two messages)")
    for name, figures in found.items():
        medians = (statistics.median(figures[f"{column}_seconds"]) for column in columns)
        print(f"{NAMES[name]:<20}" + "".join(f"{median:9.2f} s" for median in medians))


if __name__ == "__main__":
    main()
