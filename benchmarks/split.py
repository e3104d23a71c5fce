"""Split learning beside federated averaging and centralised training, and what its messages cost.

    python -m benchmarks.split [--rounds 5] [--examples 0] [--clients 4] [--dtype float32] [--in-flight 1]

MNIST's CNN, batch 64, one epoch a round, over gRPC with a process a client, a TensorFlow thread each.

(a) accuracy on the central test set, seconds, and megabytes up and down of a round's training, for each mode, FedAvg,
    and one process that trains the whole model on all clients' examples (equal epochs).
(b) seconds of an epoch: one client over gRPC beside the unsplit model in one process (`ratio`, target 1.4), and the
    throughput of `shared` beside `sequential` (`shared_gain`), without the first round, which compiles.

`--examples N` takes N of the 60,000, to try it. Prints tables and a line of JSON.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.case import DATA, Case
from fedkeras import data
from fedkeras.config import Config
from fedkeras.reports import read_rows

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = "FEDKERAS_BENCHMARK_EXAMPLES"
QUICK = [Case("--rounds 3 --examples 4000 --clients 2 --skip-table", 59, data=("mnist",))]
MODES = ("sequential", "splitfed", "shared")
SETTING = {"dataset": "benchmarks.split:some_mnist", "model": "mnist_cnn", "batch_size": 64, "learning_rate": 0.1}


def main() -> None:
    """Run everything and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("rounds", 5), ("examples", 0), ("clients", 4), ("in-flight", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--skip-table", action="store_true", help="measure (b) only")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds must be at least 2: the first compiles and is not timed")
    os.environ[EXAMPLES] = str(options.examples)
    table = {}
    for name in ("sequential", "shared") if options.skip_table else (*MODES, "fedavg"):
        flags = split_flags(name, options) if name in MODES else []
        table[name] = federated(options.rounds, options.clients, flags)
        show(name, table[name])
    if not options.skip_table:
        table["centralised"] = centralised(options.rounds, options.clients, evaluate=True)
        show("centralised", table["centralised"])
    one = federated(3, 1, split_flags("sequential", options))["epoch_seconds"]
    whole = centralised(3, 1, evaluate=False)["epoch_seconds"]
    gain = table["sequential"]["epoch_seconds"] / table["shared"]["epoch_seconds"]
    speed = {"one_client_seconds": one, "unsplit_seconds": whole, "ratio": one / whole, "shared_gain": gain}
    for name, value in speed.items():
        print(f"{name:<20}{value:8.3f}", flush=True)
    figures = {"table": table, **speed, **vars(options)}
    print(json.dumps(figures, default=float))


def split_flags(mode: str, options: argparse.Namespace) -> list:
    """server.py's flags for a mode."""
    in_flight = 1 if mode == "sequential" else options.in_flight
    return ["--split", mode, "--split-dtype", options.dtype, "--in-flight", in_flight]


def some_mnist(config: Config) -> data.Source:
    """A source: MNIST, or its first examples."""
    whole = data.open_source(replace(config, dataset="mnist", data_dir=str(DATA / "mnist")))
    count = int(os.environ.get(EXAMPLES, "0"))
    if not count:
        return whole
    some, test = whole.examples(np.arange(count)), whole.test()
    return data.ArraySource(
        "some_mnist", (some.x, some.y), (test.x, test.y), whole.classes, default_normaliser=whole.default_normaliser,
        known_range=whole.known_range,
    )  # fmt: skip


def federated(rounds: int, clients: int, flags: list) -> dict:
    """A run of server.py with a process a client."""
    with tempfile.TemporaryDirectory(prefix="fedkeras-bench-") as folder:
        setting = [word for key, value in SETTING.items() for word in (f"--{key.replace('_', '-')}", value)]
        setting += ["--num-partitions", clients, "--spawn", clients, "--port", 0, "--num-server-rounds", rounds]
        command = [sys.executable, ROOT / "server.py", *setting, *flags, "--run-dir", folder, "--checkpoint-every", 0]
        started = time.perf_counter()
        subprocess.run([str(word) for word in command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        rows = read_rows(next(Path(folder).glob("*/history.csv")))
    trained = [row for row in rows if (row["phase"], row["client"]) == ("train", "all")]
    central = [row["accuracy"] for row in rows if (row["phase"], row["client"]) == ("evaluate", "server")]
    return {
        "accuracy": central[-1],
        "epoch_seconds": statistics.median(row["seconds"] for row in trained[1:]),
        "blocks": {"epoch_seconds": [row["seconds"] for row in trained[1:]]},
        "run_seconds": seconds,
        "up_mb": trained[-1]["bytes_up"] / 1e6,
        "down_mb": trained[-1]["bytes_down"] / 1e6,
    }


def centralised(epochs: int, clients: int, evaluate: bool) -> dict:
    """The whole model on all clients' training examples, in a process of its own, for TensorFlow's threads."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_centralised, (epochs, clients, evaluate))


def _centralised(epochs: int, clients: int, evaluate: bool) -> dict:
    from fedkeras import factory
    from fedkeras.randomness import generator

    started = time.perf_counter()
    config = Config(**SETTING, num_partitions=clients)
    learner = factory.make_learner(config, 1)
    parts = [data.load_client(config, cid).train for cid in range(clients)]
    placed = learner.place(np.concatenate([part.x for part in parts]), np.concatenate([part.y for part in parts]))
    seconds = []
    for epoch in range(epochs):
        begun = time.perf_counter()
        learner.train(*placed, epochs=1, batch_size=config.batch_size, rng=generator(config.seed, "train", epoch, 0))
        seconds.append(time.perf_counter() - begun)
    accuracy = float("nan")
    if evaluate:
        test = data.load_test(config)
        accuracy = learner.evaluate(test.x, test.y).accuracy
    took = {"epoch_seconds": statistics.median(seconds[1:]), "run_seconds": time.perf_counter() - started}
    return {"accuracy": accuracy, **took, "up_mb": 0.0, "down_mb": 0.0}


def show(name: str, figures: dict) -> None:
    """One line of the table."""
    if name == "sequential":
        print(f"{'':<12}{'accuracy':>10}{'s an epoch':>12}{'s in all':>10}{'MB up':>10}{'MB down':>10}")
    names = ("accuracy", "epoch_seconds", "run_seconds", "up_mb", "down_mb")
    accuracy, *others = (figures[key] for key in names)
    widths = (12, 10, 10, 10)
    cells = "".join(f"{value:>{width}.1f}" for value, width in zip(others, widths, strict=True))
    print(f"{name:<12}{accuracy:>10.4f}{cells}", flush=True)


if __name__ == "__main__":
    main()
