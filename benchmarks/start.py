"""From nothing to the first aggregated round, and where the time goes.

    python -m benchmarks.start [--simulation]

Starts what `make demo` starts, a server and three client processes at once, or with --simulation the one command
`python -m fedkeras simulate`. Prints when the clients had TensorFlow, when they were ready, and when the first round
was aggregated, in seconds after the start, and a line of JSON.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.case import Case
from fedkeras.reports import read_history

ROOT = Path(__file__).resolve().parents[1]
PORT = "9081"
QUICK = [Case("", 14, times=3), Case("--simulation", 30, "simulation")]


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulation", action="store_true")
    simulation = parser.parse_args().simulation
    with tempfile.TemporaryDirectory(prefix="fedkeras-bench-") as folder:
        flags = ["--num-server-rounds", "3", "--run-dir", folder]
        started = time.monotonic()
        if simulation:
            programs = [["-m", "fedkeras", "simulate", *flags]]
        else:
            clients = [["client.py", "--cid", str(cid), "--server", f"127.0.0.1:{PORT}"] for cid in range(3)]
            programs = [["server.py", "--port", PORT, *flags], *clients]
        lines = run(programs, started)
        figures = {"first_round": first_round(Path(folder), started)}
        if not simulation:
            ready = [re.search(r"waited ([\d.]+) s for TensorFlow", text) for _, text in lines]
            figures["clients_joined"] = max(second for second, text in lines if "joined" in text)
            figures["clients_waited_for_tensorflow"] = max(float(found[1]) for found in ready if found)
            figures["clients_ready"] = max(second for second, text in lines if "ready" in text)
        figures["tracing"] = tracing(Path(folder))
    figures = {name: round(value, 2) for name, value in figures.items()}
    for name, value in figures.items():
        print(f"{name:<32}{value:7.2f} s")
    print(json.dumps(figures))


def run(programs: list[list[str]], started: float) -> list[tuple[float, str]]:
    """Run Python programs at once to their end; their lines of output with the second in which each came."""
    lines: list[tuple[float, str]] = []

    def follow(process: subprocess.Popen) -> None:
        for text in process.stdout:
            lines.append((time.monotonic() - started, text.strip()))

    processes = [
        subprocess.Popen([sys.executable, "-u", *program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for program in programs
    ]
    threads = [threading.Thread(target=follow, args=(process,)) for process in processes]
    for thread in threads:
        thread.start()
    for thread, process in zip(threads, processes, strict=True):
        thread.join()
        if process.wait():
            sys.exit(f"{process.args} ended with status {process.returncode}")
    return lines


def first_round(folder: Path, started: float) -> float:
    """Seconds from the start until the server had aggregated round 1: the log's own time of it."""
    log = next(folder.glob("*/run.log")).read_text()
    clock = re.search(r"^([\d-]+ [\d:]+),(\d+) .*round 1 is aggregated", log, re.MULTILINE)
    moment = time.mktime(time.strptime(clock[1], "%Y-%m-%d %H:%M:%S")) + int(clock[2]) / 1000
    return moment - (time.time() - (time.monotonic() - started))


def tracing(folder: Path) -> float:
    """Seconds by which the slowest client's first training is longer than its second: the graph is made in it."""
    history = read_history(next(folder.glob("*/history.csv")))
    train = history[(history["phase"] == "train") & history["client"].str.isdigit()]
    first, second = (train[train["round"] == number].set_index("client")["seconds"] for number in (1, 2))
    return float((first - second).max())


if __name__ == "__main__":
    main()
