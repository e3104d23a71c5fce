"""What a round over gRPC costs beside the clients' own work.

    python -m benchmarks.round_overhead [--rounds 10]

1. The product as it is: `python server.py` and three `python client.py`, LEAF's CNN (6.6 M weights, 26 MB a message),
   1,000 FEMNIST images a client, batch 20, no central evaluation. Overhead is a round's seconds less the slowest
   client's seconds of training and evaluation.
2. Three clients that only echo 26 MB over our gRPC, beside three processes that echo the same bytes over a bare socket;
   five times as many rounds, in turns.

Prints medians of five blocks of rounds and the least, and a line of JSON: overhead_seconds, ratio (whole round to
compute), echo_seconds, socket_seconds, echo_ratio.
"""

import argparse
import json
import multiprocessing
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from flwr.app import Context, Message, RecordDict

from benchmarks.blocks import figures, grouped, ratios, table, timed
from benchmarks.case import Case
from fedkeras.federation.records import record
from fedkeras.reports import read_history
from fedkeras.runtime.grpc_grid import GrpcGrid
from fedkeras.runtime.node import serve

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = 3
QUICK = [Case("--rounds 5", 55, data=("femnist/leaf",))]
LEAF_SHAPES = [(5, 5, 1, 32), (32,), (5, 5, 32, 64), (64,), (3136, 2048), (2048,), (2048, 62), (62,)]


def main() -> None:
    """Run both parts and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    whole, compute = training_rounds(rounds)
    echo, bare = echo_rounds(5 * rounds)
    seconds = {
        "round_seconds": whole,
        "compute_seconds": compute,
        "overhead_seconds": [a - b for a, b in zip(whole, compute, strict=True)],
        "ratio": ratios(whole, compute),
        "echo_seconds": echo,
        "socket_seconds": bare,
        "echo_ratio": ratios(echo, bare),
    }
    blocks = {name: grouped(values) for name, values in seconds.items()}
    print(table(blocks))
    print(json.dumps(figures(blocks)))


def training_rounds(rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of each round, and of its slowest client's work; the first round, which compiles, is left out."""
    with tempfile.TemporaryDirectory(prefix="fedkeras-bench-") as folder:
        flags = ["--dataset", "benchmarks.workloads:femnist_3333", "--model", "leaf_cnn", "--batch-size", "20"]
        flags += ["--learning-rate", "0.01", "--num-server-rounds", str(rounds + 1), "--no-central-evaluation"]
        flags += ["--spawn", str(CLIENTS), "--port", "0", "--run-dir", folder]
        subprocess.run([sys.executable, "server.py", *flags], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        history = read_history(next(Path(folder).glob("*/history.csv")))
    history = history[history["round"] > 1]
    whole = history[history["client"] == "all"].groupby("round")["seconds"].sum()
    own = history[history["client"].str.isdigit()].groupby(["round", "client"])["seconds"].sum()
    return list(whole), list(own.groupby("round").max())


def echo_rounds(rounds: int) -> tuple[list[float], list[float]]:
    """Seconds in which three clients echo the weights over our gRPC, and over bare sockets, in turn."""
    context = multiprocessing.get_context("spawn")
    weights = record({str(i): np.zeros(shape, np.float32) for i, shape in enumerate(LEAF_SHAPES)})
    payload = b"\0" * sum(len(array.data) for array in weights.values())
    listener = socket.create_server(("127.0.0.1", 0))
    with GrpcGrid("127.0.0.1", 0, CLIENTS, {}) as grid:
        for cid in range(CLIENTS):
            context.Process(target=echo_client, args=(grid.address, cid), daemon=True).start()
            context.Process(target=echo_socket, args=(listener.getsockname(), len(payload)), daemon=True).start()
        peers = [listener.accept()[0] for _ in range(CLIENTS)]
        while len(grid.cids()) < CLIENTS:
            time.sleep(0.05)
        echo, bare = [], []
        for _ in range(rounds + 2):
            echo.append(timed(lambda: through_grid(grid, weights)))
            bare.append(timed(lambda: through_sockets(peers, payload)))
    return echo[2:], bare[2:]


def through_grid(grid: GrpcGrid, weights: object) -> None:
    """Send the weights to all clients and wait for all replies."""
    content = RecordDict({"arrays": weights})
    replies = list(grid.send_and_receive([Message(content, node, "train") for node in grid.get_node_ids()]))
    assert len(replies) == CLIENTS and not any(reply.has_error() for reply in replies)


def through_sockets(peers: list[socket.socket], payload: bytes) -> None:
    """Send the same bytes to all and read them back, with a thread a peer for each direction."""
    threads = [threading.Thread(target=peer.sendall, args=(payload,)) for peer in peers]
    threads += [threading.Thread(target=read, args=(peer, len(payload))) for peer in peers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def read(peer: socket.socket, size: int) -> bytearray:
    """Read exactly `size` bytes."""
    buffer = bytearray(size)
    view, done = memoryview(buffer), 0
    while done < size:
        done += peer.recv_into(view[done:]) or sys.exit()  # the other side has gone
    return buffer


def echo_socket(address: tuple[str, int], size: int) -> None:
    """A process that reads a whole message, then sends it back."""
    with socket.create_connection(address) as peer:
        while True:
            peer.sendall(read(peer, size))


def echo_client(address: str, cid: int) -> None:
    """A fedkeras node whose app sends back what it gets."""

    def app(message: Message, _: Context) -> Message:
        return Message(message.content, reply_to=message)

    serve(app, address, [cid], {}, 30.0)


if __name__ == "__main__":
    main()
