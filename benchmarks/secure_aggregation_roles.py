"""The two sides of benchmarks.secure_aggregation: `server COUNT ROUNDS MB DROPOUT`, `clients ADDRESS COUNT DROPOUT`."""

import contextlib
import json
import os
import socket
import statistics
import struct
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from flwr.app import Context, Message, MetricRecord, RecordDict
from scipy.stats import hypergeom  # noqa: F401 - before clients are forked

from benchmarks import many_clients_roles as light
from benchmarks.blocks import grouped, ratios
from fedkeras.config import Config
from fedkeras.federation.client_weights import PHASES, ClientWeights
from fedkeras.federation.records import record, views
from fedkeras.mods.chain import ModChain, make_mods
from fedkeras.mods.secure_aggregation import wire
from fedkeras.runtime.client_app import App
from fedkeras.runtime.grpc_grid import GrpcGrid
from fedkeras.strategies.fedavg import FedAvg
from fedkeras.workflows.rounds.server import RoundsWorkflow, one_round
from fedkeras.workflows.run_setup import bare_run

TCP_INFO = struct.Struct("=120xQQ")
"""Of Linux' struct tcp_info: bytes that the other end has acknowledged, and bytes received."""


def mods_of(max_dropout: float) -> str:
    return f"secure-aggregation:max-dropout={max_dropout}"


def server(count: int, rounds: int, megabytes: float, max_dropout: float) -> None:
    """Print the address, do plain and secure rounds in turn, print the figures as JSON."""
    arrays = light.model(megabytes)
    config = Config(
        num_partitions=count, num_server_rounds=2 * rounds + 2, central_evaluation=False, fraction_evaluate=0.0,
        node_timeout=light.WAIT_SECONDS, mods=mods_of(max_dropout), rest_after=0, max_retries=0,
    )  # fmt: skip
    weights = ClientWeights(config, fixed=False)
    weights.deal({phase: dict.fromkeys(range(count), light.EXAMPLES) for phase in PHASES})
    chain = make_mods(config.mods)
    [mod] = chain.mods
    chain.check(config)
    with contextlib.redirect_stdout(sys.stderr):
        chain.choose(config)
    seconds, carried, phases = defaultdict(list), defaultdict(list), Counter()
    with GrpcGrid("127.0.0.1", 0, count, config.for_clients()) as grid:
        print(grid.address, flush=True)
        port = int(grid.address.rpartition(":")[2])
        plain = bare_run(grid, config, FedAvg(), mods=ModChain(), client_weights=weights)
        secure = bare_run(
            grid,
            config,
            FedAvg(),
            mods=chain,
            client_weights=weights,
            callbacks=chain.callbacks(),
            clients=plain.clients,
        )
        with contextlib.redirect_stdout(sys.stderr):
            secure.callbacks.on_run_begin(secure)
        mod.journal_path = None
        plain.clients.wait()
        for number in range(2 * rounds + 2):
            name, run = ("plain", plain) if number % 2 == 0 else ("secure", secure)
            before, started = bytes_of(port), time.perf_counter()
            result = one_round(RoundsWorkflow(), run, arrays, number + 1)
            took, arrays = time.perf_counter() - started, result.arrays
            if result.answered != count:
                raise SystemExit(f"{name}: {result.answered} of {count} answered: {result.failures}")
            if number > 1:  # the first of each is left out: connections are new, memory is fresh
                seconds[name].append(took)
                carried[name].append(bytes_of(port) - before)
    later = mod.entries[1:]
    for phase in later[0]["seconds"]:
        phases[phase] = statistics.median(entry["seconds"][phase] for entry in later)
    plain_seconds, secure_seconds = (statistics.median(seconds[name]) for name in ("plain", "secure"))
    figures = {
        "plain_seconds": plain_seconds,
        "secure_seconds": secure_seconds,
        "seconds_ratio": statistics.median(ratios(seconds["secure"], seconds["plain"])),
        "bytes_ratio": statistics.median(carried["secure"]) / statistics.median(carried["plain"]),
        "plain_bytes": statistics.median(carried["plain"]),
        **phases,
        "degree": later[0]["degree"],
        "threshold": later[0]["threshold"],
        "bits": later[0]["bits"],
    }
    took = {f"{name}_seconds": grouped(seconds[name]) for name in ("plain", "secure")}
    took["seconds_ratio"] = grouped(ratios(seconds["secure"], seconds["plain"]))
    blocks = {name: [round(value, 4) for value in values] for name, values in took.items()}
    rounded = {name: round(value, 4) for name, value in figures.items()}
    print(json.dumps({**rounded, "blocks": blocks}), flush=True)


def bytes_of(port: int) -> int:
    """What TCP has carried so far on this process's connections at `port`, both ways. Linux only."""
    total = 0
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # one may be closed meanwhile, or be no TCP
            if not str(path.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(path.name))) as found:
                if found.family in (socket.AF_INET, socket.AF_INET6) and found.getsockname()[1] == port:
                    info = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size)
                    total += sum(TCP_INFO.unpack(info))
    return total


def answering(max_dropout: float) -> App:
    """A client's app: what names an attempt at a secure sum goes through the mod, anything else does not."""
    mods = mods_of(max_dropout)
    update = np.random.default_rng(0)

    def train(message: Message, context: Context) -> Message:
        weights = views(message.content["arrays"])
        moved = {name: array + np.float32(update.uniform(-0.5, 0.5)) for name, array in weights.items()}
        metrics = MetricRecord({"num-examples": light.EXAMPLES, "loss": 0.5, "accuracy": 0.5, "seconds": 0.0})
        return Message(RecordDict({"arrays": record(moved), "metrics": metrics}), reply_to=message)

    def app(message: Message, context: Context) -> Message:
        secure = wire.ATTEMPT in wire.config_of(message.content)
        return make_mods(mods).answer(message, context, train) if secure else train(message, context)

    return app


if __name__ == "__main__":
    if sys.argv[1] == "server":
        server(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5]))
    else:
        light.clients(sys.argv[2], int(sys.argv[3]), answering(float(sys.argv[4])))
