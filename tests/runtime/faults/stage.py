"""Where a fault is played: the real server.py, clients that learn by arithmetic, a proxy between them, and the verdict.

A scenario is a function that takes a Stage, breaks something, and returns what came of it.
"""

import contextlib
import random
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from processes import Process, Starter, starting, until
from proxy import Proxy

from fedkeras.reports.history import read_rows

HERE = Path(__file__).resolve().parent
PATIENCE = 60.0
"""Seconds that nothing here takes on a healthy machine."""


@dataclass(frozen=True)
class Verdict:
    """What came of a fault. `seconds` are from the fault to the end of the next whole round, or to the refusal."""

    survived: bool
    seconds: float
    note: str = ""


def step(weights: np.ndarray, cid: int, server_round: int) -> np.ndarray:
    """What a toy client's training does to the weights, in float32."""
    return np.float32(0.5) * weights + np.float32((cid + 1) * server_round * 0.37)


def initial(size: int) -> np.ndarray:
    """The weights that a toy client begins with."""
    return np.arange(size, dtype=np.float32) % 7


def undisturbed(rounds: int, size: int, cids: tuple[int, ...]) -> np.ndarray:
    """The final weights of a run in which nothing happens, by hand: client c has c + 1 examples."""
    weights, total = initial(size), sum(cid + 1 for cid in cids)
    for server_round in range(1, rounds + 1):
        summed = sum(step(weights, cid, server_round).astype(np.float64) * (cid + 1) for cid in cids)
        weights = (summed / total).astype(np.float32)
    return weights


class Stage:
    """One run of three clients in a folder of its own; `rounds` rounds of `size` weights."""

    cids = (0, 1, 2)

    def __init__(self, start: Starter, rounds: int = 6, size: int = 100, train_seconds: float = 0.2) -> None:
        self.start, self.rounds, self.size, self.train_seconds = start, rounds, size, train_seconds
        self.stack = contextlib.ExitStack()
        self.partitions = 3
        self.port = free_port()
        self.processes: list[Process] = []
        self.server: Process | None = None

    @property
    def address(self) -> str:
        """The server's."""
        return f"127.0.0.1:{self.port}"

    @property
    def run_folder(self) -> Path:
        """The run's."""
        return self.start.run_folder()

    def serve(self, *flags: object) -> Process:
        """Start the server, or start it again with --resume; wait until it listens."""
        if "--resume" not in flags:
            size = ("--num-partitions", self.partitions, "--num-server-rounds", self.rounds)
            flags = ("--no-central-evaluation", *size, *flags)
        self.server = self.start.python(HERE.parent / "toy_server.py", "--port", self.port, *flags)
        self.server.said("listening on ")
        return self.server

    def proxy(self, **options: object) -> Proxy:
        """A proxy before the server."""
        return self.stack.enter_context(Proxy(self.address, **options))

    def join(self, cids: object, *flags: object, address: str = "") -> Process:
        """Start a client."""
        own = ("--size", self.size, "--seconds", self.train_seconds)
        return self.start.python(HERE / "toy_node.py", address or self.address, cids, *own, *flags)

    def others(self, *cids: int, flags: tuple = ()) -> None:
        """Start clients that have nothing to do with the fault."""
        self.processes += [self.join(cid, *flags) for cid in cids]

    def done(self) -> int:
        """Rounds that are finished."""
        found = list((self.start.folder / "runs").glob("*/history.csv"))
        rows = read_rows(found[0]) if found else []
        return max((row["round"] for row in rows if row["phase"] == "evaluate"), default=0)

    def reach(self, server_round: int) -> None:
        """Wait until that round is finished."""

        def there() -> bool:
            status = self.server.popen.poll()
            assert status in (None, 0), f"the server ended with {status}: {self.server.err}"
            return self.done() >= server_round

        until(there, f"round {server_round}", PATIENCE)

    def train(self, client: Process) -> None:
        """Wait until a client has begun to train once more."""
        before = client.out.count("trains")
        until(lambda: client.out.count("trains") > before, f"a training of {client.popen.args}: {client.err}", PATIENCE)

    def recovered(self, since: float) -> float:
        """Wait for the end of the next round; seconds since the fault."""
        self.reach(min(self.rounds, self.done() + 1))
        return time.monotonic() - since

    def verdict(
        self, seconds: float, *clients: Process, equal: bool = True, cids: tuple[int, ...] = cids, last: int = 0
    ) -> Verdict:
        """Wait for the end; survived if all ended well, with the weights of an undisturbed run of `cids` if `equal`.

        `last` is the status with which `clients` should end: 3 if they had no part in the run.
        """
        statuses = [process.ended(PATIENCE) for process in (self.server, *self.processes, *clients)]
        if statuses != [0] * (1 + len(self.processes)) + [last] * len(clients):
            said = "; ".join(process.err.strip()[-300:] for process in (self.server, *clients))
            return Verdict(False, seconds, f"ended with {statuses}: {said}")
        if self.done() != self.rounds:
            return Verdict(False, seconds, f"{self.done()} of {self.rounds} rounds")
        if equal:
            with np.load(self.run_folder / "weights.npz") as found:
                same = np.array_equal(found["w"], undisturbed(self.rounds, self.size, cids))
            return Verdict(same, seconds, "" if same else f"other weights than undisturbed; {self.log()}")
        return Verdict(True, seconds)

    def log(self) -> str:
        """The last of what the server noted."""
        return (self.run_folder / "run.log").read_text()[-600:]


def free_port() -> int:
    """A port that was free just now, and is none that systems give out themselves; a server comes back to it."""
    for port in random.sample(range(20_000, 32_000), 100):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError("no free port")


@contextlib.contextmanager
def stage(folder: Path, **options: object) -> Iterator[Stage]:
    """A Stage of which nothing stays behind."""
    with starting(folder) as starter:
        made = Stage(starter, **options)
        with made.stack:
            yield made


def play(scenario: Callable[[Stage], Verdict]) -> Verdict:
    """Run one scenario in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="fedkeras-fault-") as folder, stage(Path(folder)) as made:
        return scenario(made)
