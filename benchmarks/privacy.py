"""What DP-SGD costs: seconds beside ordinary training, and accuracy by epsilon. `python -m benchmarks.privacy`.

    --part cost         an epoch of DP-SGD by ordinary ones, in turns: by layers, and each example alone, vectorised
    --part accuracy     MotionSense, its 24 people dealt to 18 clients, at several epsilons beside no privacy; central
                        accuracy after the last round. Batches and noise are the system's randomness

Each part prints a table; the last line is the same as JSON.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.case import DATA, Case
from fedkeras import client, models, server
from fedkeras.config import Config

QUICK = [Case("--part cost --models digits_cnn --repeats 3", 12, name="cost", times=3)]
MODELS = {
    "mnist_cnn": ((28, 28, 1), 10, 32, 320),
    "digits_cnn": ((8, 8, 1), 10, 16, 640),
    "motionsense_cnn": ((128, 12), 6, 32, 640),
    "logistic_regression": ((8, 8, 1), 10, 16, 640),
}
"""Model -> shape of an example, classes, batch size, examples of an epoch."""
MOTIONSENSE = {
    "dataset": "motionsense", "model": "motionsense_cnn", "partitioner": "natural", "num_partitions": 18,
    "normaliser": "none", "batch_size": 64, "fraction_evaluate": 0.0, "checkpoint_every": 0,
}  # fmt: skip


def epochs_of(name: str) -> dict[str, Callable[[], float]]:
    """Functions that train an epoch and return its seconds, by the way to train."""
    from fedkeras.learning import Learner, dp_sgd

    shape, classes, batch_size, examples = MODELS[name]
    rng = np.random.default_rng(0)
    x, y = rng.random((examples, *shape), np.float32), rng.integers(0, classes, examples)

    def epoch(objective: "dp_sgd.DpSgd | None", alone: bool = False) -> Callable[[], float]:
        learner = Learner(models.build(name, input_shape=shape, num_classes=classes, seed=0), learning_rate=0.01)
        placed, known = learner.place(x, y), dp_sgd.takes

        def run() -> float:
            dp_sgd.takes = (lambda *_: False) if alone else known  # where the graph is traced
            started = time.perf_counter()
            learner.train(*placed, epochs=1, batch_size=batch_size, objective=objective, rng=np.random.default_rng(0))
            dp_sgd.takes = known
            return time.perf_counter() - started

        return run

    return {
        "ordinary": epoch(None),
        "by layers": epoch(dp_sgd.DpSgd(noise=1.0)),
        "each alone": epoch(dp_sgd.DpSgd(noise=1.0), alone=True),
    }


def cost(names: list[str], repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds of an epoch, and ratios to an ordinary one: medians of `repeats`, one way after another."""
    from fedkeras.learning import limit_threads

    limit_threads(1)
    table = {}
    print(f"{'an epoch, one thread':<22}{'ordinary ms':>12}{'by layers':>11}{'each alone':>12}")
    for name in names:
        ways = epochs_of(name)
        for run in ways.values():
            run()
        seconds = {way: [] for way in ways}
        for _ in range(repeats):
            for way, run in ways.items():
                seconds[way].append(run())
        ratio = {
            way: statistics.median(one / plain for one, plain in zip(seconds[way], seconds["ordinary"], strict=True))
            for way in ("by layers", "each alone")
        }
        ordinary = 1000 * statistics.median(seconds["ordinary"])
        table[name] = {"ordinary_ms": ordinary, **{way.replace(" ", "_"): found for way, found in ratio.items()}}
        print(f"{name:<22}{ordinary:>12.0f}{ratio['by layers']:>10.1f}x{ratio['each alone']:>11.1f}x", flush=True)
    return table


def accuracy(flags: argparse.Namespace) -> list[dict]:
    """Central accuracies of MotionSense by epsilon, a seed each."""
    rows = []
    settings = {**MOTIONSENSE, "data_dir": flags.data_dir, "num_server_rounds": flags.rounds}
    print(f"{'epsilon':>8}{'noise':>14}{'accuracy':>10}  each seed")
    for epsilon in [None, *map(float, filter(None, flags.epsilons.split(",")))]:
        mods = "" if epsilon is None else f"dp-sgd:epsilon={epsilon:g},delta={flags.delta:g},clip={flags.clip:g}"
        rate = flags.plain_learning_rate if epsilon is None else flags.learning_rate
        found, noises = [], []
        for seed in range(flags.seeds):
            config = Config(**settings, mods=mods, seed=seed, learning_rate=rate)
            with tempfile.TemporaryDirectory() as parent:
                folder = server.in_process(config, client.app, Path(parent))
                found.append(json.loads(folder.summary_path.read_text())["accuracy"])
                if mods:
                    clients = json.loads((folder.path / "example-privacy.json").read_text())["clients"]
                    noises = [account["training"]["noise"] for account in clients.values()]
        row = {"epsilon": epsilon, "accuracies": found, "noise": [min(noises), max(noises)] if noises else None}
        rows.append(row)
        noise = f"{min(noises):.2f} to {max(noises):.2f}" if noises else "-"
        each = " ".join(f"{one:.4f}" for one in found)
        shown = "none" if epsilon is None else f"{epsilon:g}"
        print(f"{shown:>8}{noise:>14}{statistics.mean(found):>10.4f}  {each}", flush=True)
    return rows


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("cost", "accuracy"), action="append")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--data-dir", default=str(DATA / "motionsense"))
    parser.add_argument("--epsilons", default="8,3,1")
    parser.add_argument("--delta", type=float, default=1e-4)
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=0.5)
    parser.add_argument("--plain-learning-rate", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, default=1)
    flags = parser.parse_args()
    parts, result = flags.part or ["cost", "accuracy"], {}
    if "cost" in parts:
        result["cost"] = cost(flags.models.split(","), flags.repeats)
    if "accuracy" in parts:
        result["accuracy"] = accuracy(flags)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
