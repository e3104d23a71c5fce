"""Compression: bytes and seconds of a round on a slow link, and accuracy: `python -m benchmarks.compression`.

The link: a real server and a light client over gRPC through the tests' proxy, which carries 10 or 100 Mbit/s each way,
and counts the bytes on the socket. A round is a model of 1,663,370 weights (that of McMahan's MNIST CNN) down and back.
Accuracy: whole runs in one process, the same clients and seeds for each setting; "within" says whether the mean lies
within the lowest and the highest seed of float32. The last line is the same as JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.case import DATA, Case
from fedkeras import client, server
from fedkeras.config import Config
from fedkeras.federation.records import record
from fedkeras.mods.chain import make_mods
from fedkeras.runtime.grpc_grid import GrpcGrid
from fedkeras.strategies.fedavg import FedAvg
from fedkeras.workflows.rounds.server import RoundsWorkflow
from fedkeras.workflows.run_setup import bare_run

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "runtime"))

QUICK = [Case("--datasets ''", 65)]
SETTINGS = {
    "float32": "",
    "16 bit both ways": "compress:up=float16,down=float16",
    "8 bit both ways": "compress:up=int8,down=int8",
    "up 8, down 16 bit": "compress:up=int8,down=float16",
    "up top 1 %, down 16 bit": "compress:up=float16,topk=0.01,down=float16",
}
SHAPES = {
    "conv_1": (5, 5, 1, 32), "bias_1": (32,), "conv_2": (5, 5, 32, 64), "bias_2": (64,), "dense": (3136, 512),
    "bias_3": (512,), "output": (512, 10), "bias_4": (10,),
}  # fmt: skip
MEGABITS = (10, 100)
WORK = {
    "mnist": {
        "data_dir": str(DATA / "mnist"), "model": "mnist_2nn", "partitioner": "dirichlet", "alpha": 0.5,
        "num_partitions": 100, "fraction_train": 0.1, "num_server_rounds": 15, "batch_size": 50, "learning_rate": 0.1,
    },
    "femnist": {
        "data_dir": str(DATA / "femnist" / "leaf"), "model": "mlp", "partitioner": "natural",
        "num_partitions": 40, "fraction_train": 0.25, "num_server_rounds": 20, "batch_size": 20, "learning_rate": 0.1,
    },
    "motionsense": {
        "data_dir": str(DATA / "motionsense"), "model": "motionsense_dense", "partitioner": "natural",
        "num_partitions": 18, "fraction_train": 0.5, "num_server_rounds": 15, "batch_size": 32, "learning_rate": 0.05,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Moved:
    """Of one round: bytes on the socket each way, and seconds by megabits a second of the link."""

    down: float
    up: float
    seconds: Mapping[int, float]


@contextmanager
def link(clients: int = 1) -> Iterator[tuple[GrpcGrid, "Proxy"]]:  # noqa: F821 - of the tests
    """A server's grid, and light clients that have joined it through a proxy."""
    from proxy import Proxy

    config = Config(num_partitions=clients, mods=SETTINGS["8 bit both ways"])
    with ExitStack() as stack:
        own = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "FEDKERAS_CACHE": stack.enter_context(tempfile.TemporaryDirectory()),
        }
        proxy = stack.enter_context(Proxy(""))
        grid = stack.enter_context(GrpcGrid("127.0.0.1", 0, clients, config.for_clients()))
        proxy.target = grid.address
        for cid in range(clients):
            command = [sys.executable, ROOT / "benchmarks" / "compression_client.py", proxy.address, str(cid)]
            process = subprocess.Popen(command, env=own, stdout=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        while len(grid.cids()) < clients:
            time.sleep(0.05)
        yield grid, proxy
        grid.stop()  # before the proxy, or its clients would look for it


def moved(grid: GrpcGrid, proxy: "Proxy", mods: str, rounds: int) -> tuple[float, float, float]:  # noqa: F821
    """Bytes down and up, and seconds, of one round of all clients under `mods`."""
    from proxy import DOWN, UP

    config = Config(
        num_partitions=1, num_server_rounds=rounds, fraction_evaluate=0.0, central_evaluation=False, mods=mods
    )
    rng, chain = np.random.default_rng(1), make_mods(mods)
    start = record({name: rng.normal(0, 0.05, shape).astype(np.float32) for name, shape in SHAPES.items()})
    chain.choose(config)
    run = bare_run(grid, config, FedAvg(), mods=chain, callbacks=chain.callbacks()).knowing(tuple(SHAPES))
    run.clients.wait()
    before, started = dict(proxy.passed), time.monotonic()
    RoundsWorkflow().train(run, start)
    return (
        (proxy.passed[DOWN] - before[DOWN]) / rounds,
        (proxy.passed[UP] - before[UP]) / rounds,
        (time.monotonic() - started) / rounds,
    )


def over_links() -> dict[str, Moved]:
    """Every setting over each link."""
    found = {}
    with link() as (grid, proxy):
        for name, mods in SETTINGS.items():
            proxy.rate, seconds = 0.0, {}
            down, up, _ = moved(grid, proxy, mods, 2)
            for megabits in MEGABITS:
                proxy.rate = megabits * 1e6 / 8
                seconds[megabits] = moved(grid, proxy, mods, 2)[2]
            found[name] = Moved(down, up, seconds)
    return found


def accuracies(dataset: str, mods: str, seeds: int, rounds: int) -> list[float]:
    """Central accuracy after the last round, a seed each."""
    settings = {"dataset": dataset, "local_epochs": 1, "fraction_evaluate": 0.0, "checkpoint_every": 0, **WORK[dataset]}
    settings["num_server_rounds"] = rounds or settings["num_server_rounds"]
    found = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as parent:
            folder = server.in_process(Config(**settings, mods=mods, seed=seed), client.app, Path(parent))
            found.append(json.loads(folder.summary_path.read_text())["accuracy"])
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", default=",".join(WORK), help="of the accuracies; '' for the links alone")
    parser.add_argument("--rounds", type=int, default=0, help="0: as the benchmark's own table has it")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--no-links", action="store_true", help="the accuracies alone")
    flags = parser.parse_args()
    started, table = time.monotonic(), {"links": {}, "accuracies": {}}
    if not flags.no_links:
        links = over_links()
        plain = links["float32"]
        heads = "".join(f"{f'{megabits} Mbit/s':>13}" for megabits in MEGABITS)
        print(f"{'a round, one client':<26}{'MB down':>9}{'MB up':>9}{'% down':>9}{'% up':>9}{heads}")
        for name, one in links.items():
            shares = 100 * one.down / plain.down, 100 * one.up / plain.up
            times = "".join(f"{one.seconds[megabits]:>11.2f} s" for megabits in MEGABITS)
            print(f"{name:<26}{one.down / 1e6:>9.3f}{one.up / 1e6:>9.3f}{shares[0]:>9.2f}{shares[1]:>9.2f}{times}")
            table["links"][name] = {"down": one.down, "up": one.up, "seconds": one.seconds}
    for dataset in filter(None, flags.datasets.split(",")):
        print(f"{dataset:<26}{'mean':>9}{'lowest':>9}{'highest':>9}", flush=True)
        for name, mods in SETTINGS.items():
            each = accuracies(dataset, mods, flags.seeds, flags.rounds)
            table["accuracies"].setdefault(dataset, {})[name] = each
            reference = table["accuracies"][dataset]["float32"]
            within = min(reference) <= statistics.mean(each) <= max(reference)
            said = "" if not mods else "  within float32's seeds" if within else "  outside float32's seeds"
            print(f"{name:<26}{statistics.mean(each):>9.4f}{min(each):>9.4f}{max(each):>9.4f}{said}", flush=True)
    print(f"{time.monotonic() - started:.0f} s")
    print(json.dumps(table))


if __name__ == "__main__":
    main()
