"""What watching a run of 300 clients costs it: the figures for Prometheus, and the page that is drawn meanwhile.

    python -m benchmarks.watching [--clients 300] [--rounds 20]

A real run (`python server.py --spawn 2`, digits, the lightest work there is) gives a round's seconds. Its history is
then played to the callback of --metrics-port, and read by HTTP once a round; Prometheus asks every 15 s by default.
What the page took stands in the run's log.

Prints the seconds a round, in five blocks of rounds, and a line of JSON: round_seconds, metrics_seconds,
metrics_share, pages, pages_share.
"""

import argparse
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

from benchmarks.blocks import figures, grouped, ratios, table
from benchmarks.case import Case
from fedkeras.config import Config
from fedkeras.reports import RunFolder, metrics_exporter, read_rows
from fedkeras.reports.history import AGGREGATES, TIMING

ROOT = Path(__file__).resolve().parents[1]
QUICK = [Case("--clients 50 --rounds 10", 20)]


def main() -> None:
    """Run, replay, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=20)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = real_run(Path(place), asked.clients, asked.rounds)
        timing, rows = TIMING.read(folder.timing_path), read_rows(folder.history_path)
        pages, share = re.search(
            r"during the run: (\d+) times.* ([\d.]+) % of it", folder.log_path.read_text()
        ).groups()
    whole = [line["seconds"] for line in timing]
    metrics = metrics_seconds(rows, asked.clients, asked.rounds)
    seconds = {"round_seconds": whole, "metrics_seconds": metrics, "metrics_share": ratios(metrics, whole)}
    blocks = {name: grouped(values) for name, values in seconds.items()}
    drawn = {"pages": int(pages), "pages_share": round(float(share) / 100, 6)}
    print(table(blocks))
    for name, value in drawn.items():
        print(f"{name:<28}{value:11.4g}")
    print(json.dumps({**figures(blocks, digits=6), **drawn}))


def real_run(place: Path, clients: int, rounds: int) -> RunFolder:
    """A run of so many clients in two processes."""
    flags = ["--port", "0", "--spawn", "2", "--num-partitions", str(clients), "--num-server-rounds", str(rounds)]
    subprocess.run(
        [sys.executable, "server.py", *flags, "--run-dir", str(place)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )
    return RunFolder(next(place.iterdir()))


def metrics_seconds(rows: list, clients: int, rounds: int) -> list[float]:
    """Seconds of each round's hooks and one scrape."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    took = []
    with metrics_exporter.exporting(Config(num_partitions=clients, metrics_port=port), "run") as [metrics]:
        for number in range(1, rounds + 1):
            own = [row for row in rows if row["round"] == number]
            started = time.perf_counter()
            for phase in ("train", "evaluate"):
                metrics.on_phase_begin(number, phase, range(clients), ())
                for row in own:
                    if row["phase"] == phase and row["client"] not in AGGREGATES:
                        metrics.on_client_result(int(row["client"]), row)
            timing = {"waiting": 0.1, "training": 1.0, "aggregation": 0.1, "evaluation": 0.5}
            metrics.on_round_end(SimpleNamespace(round=number, rows=own, failures={}, timing=timing, seconds=1.7))
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                answer.read()
            took.append(time.perf_counter() - started)
    return took


if __name__ == "__main__":
    main()
