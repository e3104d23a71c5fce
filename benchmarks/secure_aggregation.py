"""What secure aggregation costs a round, in seconds and in bytes, beside plain rounds of the same clients.

    python -m benchmarks.secure_aggregation [--clients 3,10,100,300] [--rounds 5] [--model-mb 5] [--max-dropout 0.1]

Server and clients (no TensorFlow) are processes of this machine, as in benchmarks.many_clients; a plain and a secure
round are done in turn, so that whatever else the machine does falls on both. Bytes are what TCP has carried, counted by
the kernel on the server's connections, and so are those of keys and shares. Seconds of the secure round are shown by
phase: work is the training's message there and back, sum the server's own part at the end. The last line is JSON.
"""

import argparse
import json
import signal

from benchmarks.case import Case
from benchmarks.many_clients import play

QUICK = [Case("--clients 3,10 --rounds 5 --model-mb 1", 12)]
SHOWN = {
    "plain_seconds": "plain s", "secure_seconds": "secure s", "seconds_ratio": "ratio", "bytes_ratio": "bytes",
    "work": "work", "advertise": "advertise", "share": "share", "mask": "mask", "unmask": "unmask", "sum": "sum",
    "degree": "degree", "threshold": "shares",
}  # fmt: skip


def main() -> None:
    """Run it for each number of clients."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", default="3,10,100,300")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model-mb", type=float, default=5.0)
    parser.add_argument("--max-dropout", type=float, default=0.1)
    flags = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else the server and the clients would stay behind
    results = []
    print("clients" + "".join(f"{head:>11}" for head in SHOWN.values()))
    for count in map(int, flags.clients.split(",")):
        row = measure(count, flags.rounds, flags.model_mb, flags.max_dropout)
        results.append(row)
        print(f"{count:>7}" + "".join(f"{row[name]:11.3g}" for name in SHOWN), flush=True)
    print(json.dumps(results))


def measure(count: int, rounds: int, megabytes: float, max_dropout: float) -> dict:
    """Start a server and `count` clients; the server's figures when all have ended well."""
    roles = "benchmarks.secure_aggregation_roles"
    return play(roles, count, server=(rounds, megabytes, max_dropout), clients=(max_dropout,))


if __name__ == "__main__":
    main()
