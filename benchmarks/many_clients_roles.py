"""The two sides of benchmarks.many_clients.

`server COUNT ROUNDS MEGABYTES` prints the address and the port of the bare sockets; `clients HOST:PORT COUNT [A_PROCESS
[BARE_PORT]]` joins both.
"""

import gc
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict

from benchmarks.bare_sockets import BareSockets, join
from benchmarks.blocks import figures, grouped, ratios
from fedkeras.callbacks import Callback, FinishedRound
from fedkeras.config import Config
from fedkeras.federation.client_weights import PHASES, ClientWeights
from fedkeras.federation.records import payload, record, views
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


EARLY = 5
"""The round after which memory is at its level: what there is then and after the last one is told."""


class Figures(Callback):
    """What each round took, and beside it bare sockets; a round that not all have answered ends the benchmark.

    `bare`: connected to as many clients, which take `size` bytes and give as many after each round, as in a round.
    """

    def __init__(self, count: int, bare: BareSockets, size: int) -> None:
        self._count, self._bare, self._size = count, bare, size
        self.took: dict[str, list[float]] = {
            "round_seconds": [], "train_seconds": [], "evaluate_seconds": [], "server_cpu_seconds": [],
            "bare_seconds": [], "bare_cpu_seconds": [],
        }  # fmt: skip
        self.resident: list[float] = []
        self._spent = time.process_time()

    def on_round_end(self, result: FinishedRound) -> bool:
        took = self.took
        took["server_cpu_seconds"].append(time.process_time() - self._spent)
        if result.answered != self._count:
            raise SystemExit(f"round {result.round}: {result.answered} of {self._count} answered: {result.failures}")
        took["round_seconds"].append(result.seconds)
        for row in result.rows:
            if row["client"] == "all":
                took[f"{row['phase']}_seconds"].append(row["seconds"])
        self.resident.append(memory("VmRSS"))
        before = time.process_time()
        # As in a round: training sends weights up (the clients have those they are to begin with), evaluation down.
        took["bare_seconds"].append(self._bare.exchange(1, self._size) + self._bare.exchange(self._size, 1))
        self._spent = time.process_time()
        took["bare_cpu_seconds"].append(self._spent - before)
        return False


def server(count: int, rounds: int, megabytes: float) -> None:
    """Print the address, run the rounds, print the figures as JSON."""
    arrays = model(megabytes)
    config = Config(
        num_partitions=count, num_server_rounds=rounds + 1, central_evaluation=False, node_timeout=WAIT_SECONDS
    )
    bare, size = BareSockets(), payload(RecordDict({"arrays": arrays}))
    with GrpcGrid("127.0.0.1", 0, count, config.for_clients()) as grid:
        print(grid.address, bare.port, flush=True)
        averaging = averaging_seconds(arrays, count)
        client_weights = ClientWeights(config)
        client_weights.deal({phase: dict.fromkeys(range(count), EXAMPLES) for phase in PHASES})  # as of its own data
        bare.accept(count)
        hook = Figures(count, bare, size)
        run = bare_run(grid, config, FedAvg(), callbacks=[hook], client_weights=client_weights)
        run.clients.wait()
        before = memory("VmRSS")
        RoundsWorkflow().train(run, arrays)
        peak = memory("VmHWM")
    bare.close()
    new = peak - before
    # The first round is left out: connections are new, memory is fresh
    took = {name: values[1:] for name, values in hook.took.items()}
    times = {"times_bare": ratios(took["round_seconds"], took["bare_seconds"])}
    blocks = figures({name: grouped(values) for name, values in {**took, **times}.items()}, digits=3)
    rest = {
        "averaging_seconds": averaging,
        "server_peak_mb": peak,
        "server_new_mb": new,
        "server_new_models": new / (size / 1e6),
        "server_early_mb": hook.resident[min(EARLY, len(hook.resident)) - 1] - before,
        "server_late_mb": hook.resident[-1] - before,
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


def clients(address: str, count: int, answer: App | None = None, a_process: int = 1, bare_port: int = 0) -> None:
    """Fork processes that serve `count` clients with `answer` (None: `app`), `a_process` connections in each.

    With `bare_port`, each connection has one of bare sockets beside it. Status 1 if one did not end well.
    """
    gc.collect()
    gc.freeze()  # the processes share these objects' memory as long as nobody touches them
    children = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        for first in range(0, count, a_process):
            if not (child := os.fork()):
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                os._exit(process(address, range(first, min(first + a_process, count)), answer or app, bare_port))
            children.append(child)
        failed = [cid for cid, child in enumerate(children) if os.waitpid(child, 0)[1]]
        children.clear()
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
    if failed:
        sys.exit(f"{len(failed)} client processes did not end well, the first is {failed[0]}")


def process(address: str, cids: range, answer: App, bare_port: int) -> int:
    """Serve these clients, each over a connection and in a thread of its own; the exit status."""
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda cid=cid: statuses.append(client(address, cid, answer))) for cid in cids]
    for thread in threads:
        if bare_port:
            join(bare_port)
        thread.start()
    for thread in threads:
        thread.join()
    return max(statuses, default=1)


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
        clients(sys.argv[2], int(sys.argv[3]), None, *map(int, sys.argv[4:]))
