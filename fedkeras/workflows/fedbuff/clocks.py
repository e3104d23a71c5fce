"""Who has finished next: by the order of arrival, or by a simulated clock, whose order is a function of the seed.

The simulated clock is an event queue. Each training has a virtual time at which it is finished; the earliest is taken
next, at the same time the lowest cid, however long it took on this machine. Trainings that run meanwhile run side by
side where there are processes for them: a client's time is known in advance from its first training on, since it does
the same number of steps in each.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from flwr.app import ArrayRecord, Message

from fedkeras.federation.dispatcher import Dispatcher

LOOK_SECONDS = 0.5
"""How often somebody looks who has joined, while no answer comes."""


@dataclass
class Assignment:
    """What a client is doing: its training of this `number`, from this `version` of the global arrays on."""

    cid: int
    number: int
    version: int
    arrays: ArrayRecord
    sent: Message
    """As it was before mods encoded it."""
    started: float
    """When, by the run's clock."""
    finished: float | None = None
    """When, by a simulated clock; None: it is not known yet."""

    @property
    def tag(self) -> tuple[str, int]:
        """Under which the dispatcher keeps it."""
        return "training", self.number


@dataclass
class Arrival:
    """A training that has come to its end. `reply` None: its client has failed, for this reason."""

    training: Assignment
    reply: Message | None
    reason: str = ""


FaultOfSteps = Callable[[Assignment, Message], str | None]


def no_fault(training: Assignment, reply: Message) -> None:
    """For answers whose steps nobody knows."""


UnderWay = Mapping[int, Assignment]
"""By cid."""


class Clock(Protocol):
    """Says what comes next, and when it is."""

    fault_of_steps: FaultOfSteps
    repeatable: bool
    """The same seed gives the same order."""
    now: float
    """Seconds since the run began."""

    def next(self, under_way: UnderWay, dispatcher: Dispatcher) -> Arrival | None:
        """The next to come; None: nothing has come for a while."""

    def same_instant(self, under_way: UnderWay) -> bool:
        """Whether another comes at this very moment, and is to be taken before new work is given out."""


def _taken(training: Assignment, dispatcher: Dispatcher) -> Arrival:
    reply = dispatcher.take(training.cid, training.tag)
    return Arrival(training, reply, "" if reply is not None else dispatcher.failures[training.cid])


class RealClock:
    """The order of arrival. `clock` are the seconds since some moment."""

    repeatable = False

    def __init__(self, clock: Callable[[], float], before: float = 0.0) -> None:
        self.fault_of_steps = no_fault
        self._clock, self._start = clock, clock() - before

    @property
    def now(self) -> float:
        """Wall seconds."""
        return self._clock() - self._start

    def next(self, under_way: UnderWay, dispatcher: Dispatcher) -> Arrival | None:
        """Whoever answers first; a failure is an answer too."""
        for wait in (0.0, LOOK_SECONDS):
            dispatcher.listen(wait)
            for cid, training in under_way.items():
                if cid in dispatcher.failures:
                    return Arrival(training, None, dispatcher.failures[cid])
            if found := dispatcher.arrived({cid: training.tag for cid, training in under_way.items()}):
                return Arrival(under_way[found[0]], found[1])
        return None

    def same_instant(self, under_way: UnderWay) -> bool:
        """No two things happen at once."""
        return False


SecondsOf = Callable[[Message, int, int], float]
"""(a reply, its cid, bytes of both messages' arrays) -> simulated seconds that the training took."""


@dataclass
class SimulatedClock:
    """Virtual seconds. `seconds_of` says what a training took; None: each takes one, for all clients are alike."""

    seconds_of: SecondsOf | None = None
    now: float = 0.0
    seconds: dict[int, float] = field(default_factory=dict)
    """By cid, what its trainings take; known when it has done one."""
    _early: dict[int, Arrival] = field(default_factory=dict)
    """Answers that were looked at before their time, by cid."""
    fault_of_steps: FaultOfSteps = no_fault
    """Says what is wrong with the steps that an answer claims, before they decide when it comes."""

    repeatable = True

    def next(self, under_way: UnderWay, dispatcher: Dispatcher) -> Arrival | None:
        """The earliest by the virtual clock, which then is at its time. Waits until its client has really answered."""
        if not under_way:
            return None
        for cid, training in sorted(under_way.items()):
            if training.finished is None:
                self._time(cid, training, dispatcher)
        cid, training = min(under_way.items(), key=lambda item: (item[1].finished, item[0]))
        self.now = max(self.now, training.finished)
        return self._early.pop(cid, None) or _taken(training, dispatcher)

    def same_instant(self, under_way: UnderWay) -> bool:
        """Two clients may finish at the same virtual moment: neither then sees what came of the other."""
        return any(training.finished is not None and training.finished <= self.now for training in under_way.values())

    def _time(self, cid: int, training: Assignment, dispatcher: Dispatcher) -> None:
        """When it is finished: known when its client's first training has come; one that fails then ends at once."""
        if self.seconds_of is None:
            self.seconds[cid] = 1.0
        elif cid not in self.seconds:
            arrival = self._early[cid] = _taken(training, dispatcher)
            if arrival.reply is None or self.fault_of_steps(training, arrival.reply):
                training.finished = training.started
                return
            moved = dispatcher.up[cid] + dispatcher.down[cid]
            self.seconds[cid] = self.seconds_of(arrival.reply, cid, moved)
        training.finished = training.started + self.seconds[cid]
