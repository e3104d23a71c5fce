"""What secure aggregation's protocol computes, without any network: masks, and each side's work in an attempt.

    python -m benchmarks.secure_sums [--clients 3,10,30,100,300] [--megabytes 5] [--max-dropout 0.1]

First, how fast masks are made and added: AES in counter mode and ChaCha20, alone and added to a vector. Then whole
attempts in one process, one client after another, in which as many clients as max-dropout says are lost when vectors
are due, the costliest moment: milliseconds a client spends (median) on quantising, sharing and masking, seconds the
server spends on adding vectors and on unmasking, and bytes a client sends and is sent beside its vector. Times are the
processor's, of one core. Each sum is compared with the plain one. Prints two tables and a line of JSON.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from benchmarks.case import Case
from fedkeras.mods.secure_aggregation.client_session import SumClient
from fedkeras.mods.secure_aggregation.encoding import Quantised
from fedkeras.mods.secure_aggregation.masks import BLOCK, add_masks
from fedkeras.mods.secure_aggregation.parameters import whole
from fedkeras.mods.secure_aggregation.server_session import SumServer
from fedkeras.mods.secure_aggregation.terms import Terms

QUICK = [Case("--clients 10,30 --megabytes 1", 4, times=3)]
GENERATORS = {
    "AES-128-CTR": lambda: Cipher(algorithms.AES(os.urandom(16)), modes.CTR(os.urandom(16))),
    "AES-256-CTR": lambda: Cipher(algorithms.AES(os.urandom(32)), modes.CTR(os.urandom(16))),
    "ChaCha20": lambda: Cipher(algorithms.ChaCha20(os.urandom(32), os.urandom(16)), None),
}
OF_EXAMPLES = 1000
"""The most that a client counts for here."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", default="3,10,30,100,300")
    parser.add_argument("--megabytes", type=float, default=5.0)
    parser.add_argument("--max-dropout", type=float, default=0.1)
    options = parser.parse_args()
    values = int(options.megabytes * 1e6 / 4)
    rates = generators(values)
    print(f"{'masks':<22}{'GB/s':>8}")
    for name, rate in rates.items():
        print(f"{name:<22}{rate:>8.1f}")
    heads = (
        "clients",
        "neighbours",
        "threshold",
        "quantise ms",
        "share ms",
        "mask ms",
        "adding s",
        "unmasking s",
        "beside KB",
    )
    print("\n" + "".join(f"{head:>12}" for head in heads))
    table = []
    for clients in map(int, options.clients.split(",")):
        row = attempt(clients, values, options.max_dropout)
        table.append(row)
        print("".join(f"{value:>12.5g}" for value in row.values()), flush=True)
    print(json.dumps({**vars(options), "gigabytes_a_second": rates, "table": table}))


def generators(values: int) -> dict[str, float]:
    """GB/s of each generator over a vector of so many values, the best of ten; the last lines are the protocol's."""
    zeros, buffer, rates = bytes(4 * BLOCK), bytearray(4 * BLOCK), {}
    for name, cipher in GENERATORS.items():

        def made(cipher: Callable[[], Cipher] = cipher) -> None:
            stream = cipher().encryptor()
            for _ in range(0, values, BLOCK):
                stream.update_into(zeros, buffer)

        rates[name] = 4e-9 * values / best(made)
    vector = np.zeros(values, np.uint32)
    for masks in (1, 20):
        keys = [(os.urandom(32), True) for _ in range(masks)]
        rates[f"made and added, {masks}"] = 4e-9 * values * masks / best(lambda keys=keys: add_masks(vector, keys))
    return rates


def attempt(clients: int, values: int, max_dropout: float) -> dict[str, float]:
    """One attempt with as many clients lost as the terms allow for."""
    encoding = Quantised(1.0, OF_EXAMPLES, clients)
    cohort, lost = range(clients), whole(max_dropout, clients)
    terms = Terms.plan(
        round=1, attempt=0, cohort=cohort, values=values, encoding=encoding, graph_seed=os.urandom(32),
        max_dropout=max_dropout,
    )  # fmt: skip
    server, sessions = SumServer(terms), {cid: SumClient(terms, cid) for cid in cohort}
    seconds: dict[str, list[float]] = {}

    def timed(what: str, call: Callable, *arguments):
        start = time.process_time()
        result = call(*arguments)
        seconds.setdefault(what, []).append(time.process_time() - start)
        return result

    rng = np.random.default_rng(0)
    update = rng.normal(0, 0.1, values).astype(np.float32)
    vector = [timed("quantise", encoding.encode, update, 10, rng).vector for _ in range(3)][-1]
    rosters = server.advertised({cid: session.advertise() for cid, session in sessions.items()})
    letters = server.shared({cid: timed("share", sessions[cid].share, rosters[cid]) for cid in cohort})
    for cid in cohort[lost:]:
        timed("adding", server.masked, cid, timed("mask", sessions[cid].mask, letters[cid], vector))
    request = server.unmasking()
    answers = {cid: sessions[cid].unmask(request.survivors, request.dropped) for cid in request.survivors}

    def unmask() -> np.ndarray:
        server.unmasked(answers)
        return server.sum()

    total = timed("unmasking", unmask)
    if not np.array_equal(total, vector * np.uint32(len(request.survivors))):
        raise SystemExit("the sum is not that of the survivors")
    last = request.survivors[-1]
    beside = 96 + sum(96 + 2 * len(text) for text in letters[last].values()) + 16 * (terms.degree + 1)
    return {
        "clients": clients,
        "neighbours": terms.degree,
        "threshold": terms.threshold,
        **{f"{what}_ms": 1e3 * statistics.median(seconds[what]) for what in ("quantise", "share", "mask")},
        "adding_s": sum(seconds["adding"]),
        "unmasking_s": sum(seconds["unmasking"]),
        "beside_kb": beside / 1e3,
    }


def best(call: Callable[[], None]) -> float:
    """Seconds of one core, the best of ten."""
    times = []
    for _ in range(10):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


if __name__ == "__main__":
    main()
