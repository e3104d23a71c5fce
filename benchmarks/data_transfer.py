"""MNIST from the server to five clients: seconds and megabytes a second, beside a bare socket copy of the same bytes.

    python -m benchmarks.data_transfer [--data-dir DIR] [--times 3] [--megabytes N]

Each client is a process that takes its shard of `dataset/X/mnist.npz` as in a real run (digests checked, written to its
cache), but trains nothing. In plaintext, over TLS with certificates from files (`tls`), and over TLS with a passphrase
alone (`passphrase`), in turns, for a machine is faster at one time than at another; then a second run, whose clients
have all in their cache; and five processes that take the same bytes from bare sockets over loopback, and keep none.
Without --data-dir the images are random bytes in MNIST's shape; with --megabytes, as many of them as make up N MB.
Medians, the least and the most; the processors' time a MB is server's and clients' together (Linux only). Of memory it
says what the server's process and the largest client's needed of their own at most (RssAnon: without pages of mapped
files, which the system takes back when it needs them), above what they had before. The last line is the same as JSON.
"""

import argparse
import contextlib
import functools
import io
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from flwr.app import Context, Message

from benchmarks.blocks import figures as medians
from benchmarks.blocks import table
from benchmarks.case import Case
from fedkeras.config import Config
from fedkeras.federation.dispatcher import talk
from fedkeras.federation.records import payload
from fedkeras.federation.requests import ClientRequest
from fedkeras.provisioning import client as provisioning_client
from fedkeras.provisioning import server as provisioning_server
from fedkeras.runtime.grpc_grid import GrpcGrid
from fedkeras.runtime.node import serve
from fedkeras.runtime.passphrase import Access

CLIENTS = 5
QUICK = [Case("--megabytes 20 --times 3", 36)]
PASSPHRASE = "a phrase of some words"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", default="")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=0)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fedkeras-bench-") as name:
        folder = Path(name)
        config = prepare(folder, flags.data_dir, flags.megabytes)
        started = time.monotonic()
        provision = provisioning_server.open_provision(config)
        for shard in provision.shards.values():
            assert shard.digest
        figures = {"open_seconds": time.monotonic() - started}
        megabytes = sum(shard.num_bytes for shard in provision.shards.values()) / 1e6
        figures["megabytes"] = megabytes
        memory: dict[str, float] = {}
        certificates(folder)
        pem, key, ca = (str(folder / "certs" / name) for name in ("server.pem", "server-key.pem", "ca.pem"))
        ends = {
            "plain": (Access(), Access()),
            "tls": (Access(tls_cert=pem, tls_key=key), Access(tls_ca=ca)),
            "passphrase": (Access(PASSPHRASE), Access(PASSPHRASE)),
        }
        runs, sockets = {kind: [] for kind in ends}, []
        for _ in range(flags.times):
            sockets.append(bare(int(megabytes * 1e6)))
            for kind, (server_end, client_end) in ends.items():
                runs[kind].append(transfer(config, provision, folder, server_end, client_end, memory))
        blocks = {"socket_seconds": sockets}
        for kind, transfers in runs.items():
            blocks[f"{kind}_seconds"] = [one.seconds for one in transfers]
            blocks[f"{kind}_cpu_s_per_mb"] = [one.cpu_seconds / megabytes for one in transfers]
            blocks[f"{kind}_second_run_seconds"] = [one.second_run_seconds for one in transfers]
            figures[f"{kind}_second_run_bytes"] = max(one.second_run_bytes for one in transfers)
    for kind in ("socket", *ends):
        blocks[f"{kind}_mb_s"] = [megabytes / seconds for seconds in blocks[f"{kind}_seconds"]]
    figures = {name: round(value, 5) for name, value in {**figures, **memory}.items()}
    print(table(blocks))
    for name, value in figures.items():
        print(f"{name:<28}{value:11.4g}")
    print(json.dumps({**medians(blocks, digits=5), **figures}))


def prepare(folder: Path, data_dir: str, megabytes: int) -> Config:
    """A model file, and MNIST's training images and labels, or as many megabytes of such, as .npz."""
    from fedkeras import models

    if data_dir:
        from fedkeras.data import open_source

        source = open_source(Config(dataset="mnist", data_dir=data_dir))
        x, y = np.asarray(source._x), source.labels
    else:
        rng, count = np.random.default_rng(0), megabytes * 1_000_000 // 784 or 60_000
        x, y = rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count)
    for name, array in (("X", x), ("Y", y)):
        (folder / "dataset" / name).mkdir(parents=True)
        np.savez(folder / "dataset" / name / "mnist.npz", array)
    model = models.build("mnist_2nn", input_shape=(28, 28, 1), num_classes=10)
    models.save(model, folder / "mnist.keras")
    return Config(
        data_source="server", data_dir=str(folder / "dataset"), model=str(folder / "mnist.keras"),
        num_partitions=CLIENTS,
    )  # fmt: skip


def certificates(folder: Path) -> None:
    """For this machine."""
    command = [sys.executable, "-m", "fedkeras", "certs", str(folder / "certs"), "--host", "127.0.0.1", "localhost"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


class Transfer(NamedTuple):
    """A first provisioning of clients with empty caches, and a second."""

    seconds: float
    cpu_seconds: float
    second_run_seconds: float
    second_run_bytes: int


def transfer(
    config: Config,
    provision: provisioning_server.Provision,
    folder: Path,
    server_end: Access,
    client_end: Access,
    memory: dict[str, float],
) -> Transfer:
    """Provision five clients twice. `memory` gets the largest need of any transfer, in MB."""
    with (
        tempfile.TemporaryDirectory(dir=folder) as cache,
        GrpcGrid("127.0.0.1", 0, CLIENTS, config.for_clients(), access=server_end) as grid,
        clients(grid, cache, client_end) as processes,
    ):
        while len(grid.cids()) < CLIENTS:
            time.sleep(0.05)
        seconds, sent, cpu = [], [0], []
        push = grid.push_within

        def counting(messages: list[Message], reply_limits: list[int | None]) -> list[str]:
            sent[0] += sum(payload(message.content) for message in messages)
            return push(messages, reply_limits)

        grid.push_within = counting
        for _ in range(2):
            sent[0], started, before = 0, time.monotonic(), cpu_seconds(processes)
            cohort = {cid: node for node, cid in grid.cids().items()}
            script = functools.partial(
                provisioning_server.send_provision, provision=provision, report=lambda cid, state: None
            )
            with measured(processes, memory):
                done, failures = talk(grid, cohort, script, 600.0)
            assert len(done) == CLIENTS, failures
            seconds.append(time.monotonic() - started)
            cpu.append(cpu_seconds(processes) - before)
        return Transfer(seconds[0], cpu[0], seconds[1], sent[0])


@contextlib.contextmanager
def clients(grid: GrpcGrid, cache: str, access: Access) -> Iterator[list[int]]:
    """Five processes that take what they are given."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=client, args=(grid.address, cid, cache, access)) for cid in range(CLIENTS)]
    for process in processes:
        process.start()
    try:
        yield [process.pid for process in processes]
    finally:
        grid.stop()
        for process in processes:
            process.join()


@contextlib.contextmanager
def measured(processes: list[int], memory: dict[str, float]) -> Iterator[None]:
    """Meanwhile, look at the memory of this process and of the clients' again and again."""
    over, before = threading.Event(), {pid: own_megabytes(pid) for pid in (os.getpid(), *processes)}

    def look() -> None:
        while not over.wait(0.02):
            for pid, had in before.items():
                name = "server_memory_mb" if pid == os.getpid() else "client_memory_mb"
                memory[name] = max(memory.get(name, 0.0), own_megabytes(pid) - had)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def cpu_seconds(processes: list[int]) -> float:
    """Of the processors' time, what this process and the clients have had; Linux only, elsewhere 0."""
    ticks = 0
    for pid in (os.getpid(), *processes):
        with contextlib.suppress(OSError):
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def own_megabytes(pid: int) -> float:
    """Memory of a process that is no file's; Linux only, elsewhere 0."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1000


def client(address: str, cid: int, cache: str, access: Access) -> None:
    """One client."""
    os.environ["FEDKERAS_CACHE"] = f"{cache}/{cid}"
    sys.stdout = io.StringIO()  # its progress is not what this prints

    def app(message: Message, context: Context) -> Message:
        return provisioning_client.HANDLERS[message.metadata.message_type](ClientRequest(context, message))

    serve(app, address, [cid], {}, 60.0, access=access)


def bare(size: int) -> float:
    """Seconds in which five processes take `size` bytes between them from bare sockets."""
    context = multiprocessing.get_context("spawn")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        processes = [context.Process(target=take, args=(port, size // CLIENTS)) for _ in range(CLIENTS)]
        for process in processes:
            process.start()
        connections = [listener.accept()[0] for _ in processes]
        content = os.urandom(size // CLIENTS)
        started = time.monotonic()
        threads = [threading.Thread(target=give, args=(connection, content)) for connection in connections]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - started
        for process in processes:
            process.join()
    return seconds


def give(connection: socket.socket, content: bytes) -> None:
    """Send, and wait until all has been taken."""
    with connection:
        connection.sendall(content)
        connection.recv(1)


def take(port: int, size: int) -> None:
    """Receive `size` bytes."""
    buffer = bytearray(1 << 20)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        while size > 0:
            size -= connection.recv_into(buffer)
        connection.sendall(b".")


if __name__ == "__main__":
    main()
