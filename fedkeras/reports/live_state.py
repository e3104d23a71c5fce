"""What a live view knows of a run: what each client does in the round under way, and its last figures.

A callback of the run writes it, a view reads copies of it. It knows neither terminal nor colours.
"""

import copy
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from numbers import Real

from fedkeras.callbacks import Callback, FinishedRound, Row
from fedkeras.errors import one_line
from fedkeras.reports.history import NO_METRICS

AT_WORK = {"train": "training", "evaluate": "evaluating"}
PACE = 5
"""Rounds whose seconds give the estimate of the time left: the first alone, which compiles graphs, would mislead."""

ANSWERED, FAILED, LEFT_OUT, SUSPENDED, NOT_ASKED, CONNECTED, NOT_CONNECTED = (
    "answered", "failed", "left out", "suspended", "not asked", "connected", "not connected",
)  # fmt: skip
"""States of a client, beside those of AT_WORK. `not asked`: it is not in the cohort."""


@dataclass
class LiveClient:
    """One client: the seconds until its answer in this phase; `before`: by phase, those until its answer before."""

    state: str = NOT_ASKED
    seconds: float | None = None
    reason: str = ""
    before: dict[str, float] = field(default_factory=dict)
    figures: dict[str, Row] = field(default_factory=dict)
    """Phase -> its last line of history.csv in it."""


@dataclass
class LiveState(Callback):
    """The run as it is now. All methods may be called from any thread."""

    num_clients: int
    num_rounds: int
    clock: Callable[[], float] = time.monotonic
    clients: dict[int, LiveClient] = field(default_factory=dict)
    round: int = 0
    """The round under way; 0 before the first."""
    phase: str = "waiting"
    """waiting (for clients), train, evaluate, between (rounds), or over."""
    done: int = 0
    """The last finished round."""
    needed: int = 0
    """While it waits: how many clients it waits for."""
    since: float = 0.0
    """When the phase began."""
    started: float = 0.0
    ends: list[float] = field(default_factory=list)
    """When the last few rounds ended, and before them the first began."""
    patience: float = 0.0
    """Seconds after which the run gives up waiting for clients; 0: it is not said."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        self.clients = {cid: LiveClient(state=NOT_CONNECTED) for cid in range(self.num_clients)}
        self.needed = self.num_clients
        self.since = self.started = self.clock()

    def on_clients(self, connected: Collection[int], needed: int) -> None:
        """These clients are connected, of so many that are waited for."""
        connected = set(connected)
        with self._lock:
            if self.phase != "waiting":
                self.since = self.clock()
            self.phase, self.needed = "waiting", needed
            for cid, client in self.clients.items():
                client.state, client.seconds = CONNECTED if cid in connected else NOT_CONNECTED, None

    def on_phase_begin(
        self, server_round: int, phase: str, cohort: Collection[int], suspended: Collection[int]
    ) -> None:
        """A phase of a round begins."""
        cohort, suspended = set(cohort), set(suspended)
        with self._lock:
            self.since = self.clock()
            if not self.round:
                self.done = server_round - 1
                self.started, self.ends = self.since, [self.since]
            self.round, self.phase = server_round, phase
            for cid in cohort - set(self.clients):
                self.clients[cid] = LiveClient()
            for cid, client in self.clients.items():
                client.seconds, client.reason = None, ""
                client.state = AT_WORK[phase] if cid in cohort else SUSPENDED if cid in suspended else NOT_ASKED

    def on_client_result(self, cid: int, row: Row) -> None:
        """A client's good answer: its line of history.csv."""
        with self._lock:
            client = self.clients.setdefault(cid, LiveClient())
            client.state, client.seconds = ANSWERED, self.clock() - self.since
            client.before[self.phase] = client.seconds
            client.figures[self.phase] = row

    def on_client_failure(self, cid: int, reason: str) -> None:
        """A client gives no good answer."""
        with self._lock:
            client = self.clients.setdefault(cid, LiveClient())
            client.state, client.seconds, client.reason = FAILED, self.clock() - self.since, one_line(reason)

    def on_client_left_out(self, cid: int, reason: str) -> None:
        """A client was late, or others were faster."""
        with self._lock:
            client = self.clients.setdefault(cid, LiveClient())
            client.state, client.seconds, client.reason = LEFT_OUT, None, one_line(reason)

    def on_round_end(self, result: FinishedRound) -> bool:
        """A round is over and recorded. It never ends the run."""
        self.end_round(result.round)
        return False

    def end_round(self, number: int) -> None:
        """The round of this number is over."""
        with self._lock:
            self.done, self.phase, self.since = number, "between", self.clock()
            self.ends = [*self.ends, self.since][-PACE - 1 :]

    def close(self) -> None:
        """The run is over: there is nothing to show any more."""
        self.phase = "over"

    def snapshot(self) -> "LiveState":
        """A copy that stays as it is while it is drawn."""
        with self._lock:
            clients = {cid: copy.copy(client) for cid, client in sorted(self.clients.items())}
            for client in clients.values():
                client.before, client.figures = dict(client.before), dict(client.figures)
            shown, now = copy.copy(self), self.clock()
        shown.clients, shown.clock = clients, lambda: now
        return shown

    def seconds_left(self) -> float | None:
        """Seconds to the end of the run at the pace of the last few rounds; None before the first has ended."""
        rounds = len(self.ends) - 1
        if rounds < 1:
            return None
        return (self.ends[-1] - self.ends[0]) / rounds * (self.num_rounds - self.done)

    def counts(self) -> Counter[str]:
        """How many clients are in each state."""
        return Counter(client.state for client in self.clients.values())

    def cohort_size(self) -> int:
        """How many clients are in the cohort of this phase."""
        counts = self.counts()
        return counts[ANSWERED] + counts[FAILED] + counts[LEFT_OUT] + sum(counts[state] for state in AT_WORK.values())

    def metric(self) -> str:
        """The metric beside the loss: accuracy, or the first of the model's own."""
        names = dict.fromkeys(
            name
            for client in self.clients.values()
            for line in client.figures.values()
            for name, value in line.items()
            if name == "accuracy" or (name not in NO_METRICS and isinstance(value, Real))
        )
        return "accuracy" if "accuracy" in names else next(iter(names), "accuracy")
