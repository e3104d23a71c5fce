"""The two sides of benchmarks.many_clients: `server COUNT ROUNDS MEGABYTES` and `clients HOST:PORT COUNT`."""

import gc
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict

from benchmarks.blocks import figures, grouped
from fedkeras.callbacks import Callback, FinishedRound
from fedkeras.config import Config
from fedkeras.federation.client_weights import PHASES, ClientWeights
from fedkeras.federation.records import record, views
from fedkeras.federation.validation import fault_of_train
from fedkeras.flower.identity import node_id_of
from fedkeras.runtime.client_app import App
from fedkeras.runtime.grpc_grid import GrpcGrid
from fedkeras.runtime.node import serve
from fedkeras.strategies.fedavg import FedAvg
from fedkeras.workflows.rounds.server import RoundsWorkflow
from fedkeras.workflows.run_setup import bare_run

SHAPES = {"conv": (5, 5, 16, 32), "conv_bias": (32,), "small": (64, 62), "bias": (62,)}
"""Beside these the model has one large array, which makes it as large as it is to be."""

WAIT_SECONDS = 300.0
EXAMPLES = 10
"""That each client has."""


class Figures(Callback):
    """What each round took; a round that not all have answered ends the benchmark."""

    def __init__(self, count: int, seconds: list, phases: dict, cpu: list) -> None:
        self.count, self.seconds, self.phases, self.cpu = count, seconds, phases, cpu
        self.spent = time.process_time()

    def on_round_end(self, result: FinishedRound) -> bool:
        now = time.process_time()
        self.cpu.append(now - self.spent)
        self.spent = now
        if result.answered != self.count:
            raise SystemExit(f"round {result.round}: {result.answered} of {self.count} answered: {result.failures}")
        self.seconds.append(result.seconds)
        for row in result.rows:
            if row["client"] == "all":
                self.phases[row["phase"]].append(row["seconds"])
        return False


def server(count: int, rounds: int, megabytes: float) -> None:
    """Print the address, run the rounds, print the figures as JSON."""
    arrays = model(megabytes)
    config = Config(
        num_partitions=count, num_server_rounds=rounds + 1, central_evaluation=False, node_timeout=WAIT_SECONDS
    )
    seconds, phases, cpu = [], {"train": [], "evaluate": []}, []
    with GrpcGrid("127.0.0.1", 0, count, config.for_clients()) as grid:
        print(grid.address, flush=True)
        averaging = averaging_seconds(arrays, count)
        client_weights = ClientWeights(config)
        client_weights.deal({phase: dict.fromkeys(range(count), EXAMPLES) for phase in PHASES})  # as of its own data
        hooks = [Figures(count, seconds, phases, cpu)]
        run = bare_run(grid, config, FedAvg(), callbacks=hooks, client_weights=client_weights)
        run.clients.wait()
        before = memory("VmRSS")
        RoundsWorkflow().train(run, arrays)
        peak = memory("VmHWM")
    new = peak - before
    took = {
        "round_seconds": seconds,
        "train_seconds": phases["train"],
        "evaluate_seconds": phases["evaluate"],
        "server_cpu_seconds": cpu,
    }
    # The first round is left out: connections are new, memory is fresh
    blocks = figures({name: grouped(values[1:]) for name, values in took.items()}, digits=3)
    rest = {
        "averaging_seconds": averaging,
        "server_peak_mb": peak,
        "server_new_mb": new,
        "server_new_models": new / (sum(len(array.data) for array in arrays.values()) / 1e6),
    }
    print(json.dumps({**blocks, **{name: round(value, 3) for name, value in rest.items()}}), flush=True)


def model(megabytes: float) -> ArrayRecord:
    """Float32 arrays of `megabytes` in all."""
    arrays = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    rest = int(megabytes * 1e6 / 4) - sum(array.size for array in arrays.values())
    return record({**arrays, "dense": np.zeros((max(1, rest // 64), 64), np.float32)})


def averaging_seconds(arrays: ArrayRecord, count: int) -> float:
    """Seconds to check and average `count` updates, without a network."""
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": EXAMPLES, "loss": 0.5})})

    def replies() -> Iterator[Message]:
        for _ in range(count):
            reply = Message(content, node_id_of(0), "train")
            if fault := fault_of_train(reply, arrays):
                raise SystemExit(fault)
            yield reply

    started = time.perf_counter()
    FedAvg().aggregate_train(1, replies())
    return time.perf_counter() - started


def memory(field: str) -> float:
    """This process's resident memory now (VmRSS) or at its peak (VmHWM), in MB. Linux only."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1000


def clients(address: str, count: int, answer: App | None = None) -> None:
    """Fork `count` processes that each serve one partition with `answer` (None: `app`).

    Status 1 if one of them did not end well.
    """
    gc.collect()
    gc.freeze()  # the processes share these objects' memory as long as nobody touches them
    children = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        for cid in range(count):
            if not (child := os.fork()):
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                os._exit(client(address, cid, answer or app))
            children.append(child)
        failed = [cid for cid, child in enumerate(children) if os.waitpid(child, 0)[1]]
        children.clear()
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
    if failed:
        sys.exit(f"{len(failed)} clients did not end well, the first is {failed[0]}")


def client(address: str, cid: int, answer: App) -> int:
    """Serve one partition; the exit status."""
    try:
        serve(answer, address, [cid], {}, WAIT_SECONDS)
    except Exception:
        logging.exception("client %d", cid)
        return 1
    return 0


def app(message: Message, context: Context) -> Message:
    """Adds one to all weights, or says how good they are."""
    records = {"metrics": MetricRecord({"num-examples": EXAMPLES, "loss": 0.5, "accuracy": 0.5, "seconds": 0.0})}
    if message.metadata.message_type == "train":
        weights = views(message.content["arrays"])
        records["arrays"] = record({name: array + np.float32(1) for name, array in weights.items()})
    return Message(RecordDict(records), reply_to=message)


if __name__ == "__main__":
    if sys.argv[1] == "server":
        server(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
    else:
        clients(sys.argv[2], int(sys.argv[3]))
