"""Many light clients (no TensorFlow) connected at once to one server on this machine.

    python -m benchmarks.many_clients [--clients 10,100,300] [--rounds 5] [--model-mb 5] [--clients-a-process 1]
    python -m benchmarks.many_clients --clients 1000 --clients-a-process 25 --model-mb 1 --rounds 50

The server is a process of its own: federated rounds with FedAvg over our gRPC, training and evaluation, no Keras. Each
client is a process of its own too, forked before gRPC has started, so that 300 share what they have imported; or
several are one (each with a connection of its own). After each round the same processes move the same bytes over bare
sockets, which is the limit. Prints for each number of clients: median seconds a round, those of the bare sockets and
the ratio of both; the seconds that checking and averaging as many updates take without a network; the server's CPU
seconds a round, and in the bare exchange; its peak memory above what it had before the first round, also as a number
of models, and what it has above that after the fifth round and after the last, which is no more if memory is flat. All
of it shares the machine's cores with the clients. The last line is JSON.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.case import Case

ROOT = Path(__file__).resolve().parents[1]
QUICK = [Case("--clients 10,50 --rounds 10 --model-mb 1", 14)]
SHOWN = {
    "round_seconds": "s a round",
    "bare_seconds": "bare",
    "times_bare": "x bare",
    "averaging_seconds": "averaging",
    "server_cpu_seconds": "server CPU",
    "bare_cpu_seconds": "bare CPU",
    "server_new_mb": "new MB",
    "server_new_models": "models",
    "server_early_mb": "early MB",
    "server_late_mb": "late MB",
}


def main() -> None:
    """Run it for each number of clients."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", default="10,100,300")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model-mb", type=float, default=5.0)
    parser.add_argument("--clients-a-process", type=int, default=1, help="each over a connection of its own")
    flags = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else the server and the clients would stay behind
    results = []
    print("clients" + "".join(f"{head:>11}" for head in SHOWN.values()))
    for count in map(int, flags.clients.split(",")):
        row = measure(count, flags.rounds, flags.model_mb, flags.clients_a_process)
        results.append(row)
        numbers = (f"{row[name]:11.2f}" for name in SHOWN)
        print(f"{count:>7}{''.join(numbers)}", flush=True)
    print(json.dumps(results))


def measure(count: int, rounds: int, megabytes: float, a_process: int = 1) -> dict:
    """Start a server and `count` clients; the server's figures when all have ended well."""
    return play("benchmarks.many_clients_roles", count, server=(rounds, megabytes), clients=(a_process,))


def play(roles: str, count: int, server: Sequence[object], clients: Sequence[object] = ()) -> dict:
    """The figures that the server of the module `roles` prints, when it and its `count` clients have ended well.

    Both are processes of that module: `server COUNT ...` prints its address first, and what else there is to join;
    `clients ADDRESS COUNT ...` joins.
    """
    environment = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "OPENBLAS_NUM_THREADS": "1"}

    def start(*args: object) -> subprocess.Popen:
        command = [sys.executable, "-m", roles, *map(str, args)]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)

    leader = start("server", count, *server)
    joined = None
    try:
        address, *others = leader.stdout.readline().split() or sys.exit("the server did not start")
        joined = start("clients", address, count, *clients, *others)
        figures = leader.stdout.readline()
        if leader.wait() or joined.wait():
            sys.exit(f"{count} clients: the server ended with {leader.returncode}, the clients with {joined.wait()}")
    finally:
        for process in filter(None, (joined, leader)):
            process.terminate()
            process.wait()
    return {"clients": count, **json.loads(figures)}


if __name__ == "__main__":
    main()
