"""Who of a round's cohort is in time: deadlines and over-selection, by the real clock.

K. Bonawitz, H. Eichner, W. Grieskamp, D. Huba, et al., "Towards Federated Learning at Scale: System Design", MLSys
2019, arXiv:1902.01046: a round asks more clients than it needs (130 %), goes on with the first that answer, and waits
for the others no longer than a deadline. T. Li et al. (FedProx, arXiv:1812.06127), section 3.2: who cannot do all of
its work until then sends what it has.

Partial work counts for all of a client's examples, as in FedProx's paper and FedNova's: by the examples that its steps
have used it would weigh less for being slow, and the rounds would end where the fast clients want to be.

Whose work does not count for such a reason is left out of the round, and has not failed: nobody is suspended for being
slow. The same by a simulated clock is in `simulated_clock`.
"""

import math
from collections.abc import Mapping

from flwr.app import ConfigRecord, Message, MessageType, RecordDict

from fedkeras.config import Config, flag
from fedkeras.errors import UserError
from fedkeras.federation.grids import FederationGrid
from fedkeras.federation.messages import LOCAL_STEPS, MOST_SECONDS
from fedkeras.federation.metrics import RowTable, column
from fedkeras.federation.sampling import cohort_size
from fedkeras.reports.history import LEFT_OUT

STEPS = column(LOCAL_STEPS)


def asked_for(wanted: int, config: Config) -> int:
    """How many clients are asked to train where so many are `wanted`: --over-select times as many, rounded up."""
    return math.ceil(round(config.over_select * wanted, 9))  # 1.1 x 10 is 11.000000000000002 in floating point


class RoundClock:
    """The clock of one phase of a round: how long answers are waited for, how many, and whose count."""

    holds = False
    """Whether it is known only when all have answered whose answers count."""

    def __init__(self, config: Config, phase: str, wanted: int) -> None:
        """`wanted`: good answers with which the phase is over."""
        self.config, self.trains, self.wanted = config, phase == MessageType.TRAIN, wanted
        self.left_out: dict[int, str] = {}
        """Reasons by cid, of those whose good answer does not count, or that were not asked after all."""
        self._deadline = config.round_deadline if self.trains or not config.clients else 0.0
        self._partial = bool(self._deadline) and config.late == "partial" and self.trains
        self._came = 0

    @property
    def seconds(self) -> float | None:
        """How long an answer is waited for; None: until --round-timeout, and who is late then has failed."""
        if not self._deadline:
            return None
        return self._deadline + (self.config.deadline_grace if self._partial or not self.trains else 0.0)

    def prepare(self, messages: Mapping[int, Message]) -> Mapping[int, Message]:
        """The messages that are sent, by cid; a client that would be late in any case is left out."""
        if not self._partial:
            return messages
        return with_limits(messages, {cid: {MOST_SECONDS: self._deadline} for cid in messages})

    def arrived(self, cid: int, line: RowTable) -> None:
        """A good answer has arrived, with its line of history.csv."""
        self._came += 1

    @property
    def over(self) -> bool:
        """Whether there are enough good answers: no other is waited for.

        Without over-selection nobody is sent home, and an exchange goes on to its end: a mod may have more to say.
        """
        return self.trains and self.config.over_select > 1 and self._came >= self.wanted

    def decide(self) -> None:
        """No other answer will come: what was held is decided now."""

    def reason_of_absence(self) -> str | None:
        """Why who has not answered is left out; None: it has failed."""
        if self.over:
            return f"was sent home: {self.wanted} others had answered before it (--over-select)"
        return f"no answer within {self.seconds:g} s (--round-deadline)" if self._deadline else None

    def close(self, line: RowTable) -> None:
        """The phase is over; `line` is that of all clients."""
        if self.trains and (self._deadline or self.config.over_select > 1):
            line[LEFT_OUT] = len(self.left_out)


def with_limits(messages: Mapping[int, Message], limits: Mapping[int, Mapping[str, int | float]]) -> dict[int, Message]:
    """Messages whose configuration says how far each client may train, by cid.

    Of those that share a content and a limit the content stays one object, which is serialised once.
    """
    contents: dict[tuple[int, tuple[tuple[str, int | float], ...]], RecordDict] = {}
    found = {}
    for cid, limit in limits.items():
        message = messages[cid]
        key = id(message.content), tuple(limit.items())
        if key not in contents:
            records = dict(message.content.items())
            name = next((name for name, entry in records.items() if isinstance(entry, ConfigRecord)), "config")
            records[name] = ConfigRecord({**records.get(name, {}), **limit})
            contents[key] = RecordDict(records)
        found[cid] = Message(contents[key], metadata=message.metadata)
    return found


def refuse_turns(config: Config, where: str) -> None:
    """Raise UserError for real clocks where clients take turns: who is late is then a matter of whose turn it is."""
    if not config.clients and (names := config.changed(("round_deadline", "over_select"))):
        raise UserError(
            f"--{flag(names[0])}: {where}, so that the real clock says nothing of them; give --clients slow=lognormal, "
            "or slow=none"
        )


def require_clocks(config: Config, grid: FederationGrid) -> None:
    """The same for a grid. Raises UserError."""
    if grid.patient or grid.is_simulation:
        refuse_turns(config, "clients take turns here")


def refuse_what_makes_no_sense(config: Config) -> None:
    """Raise UserError, in one line, for flags of time that change nothing, or that nobody can keep."""
    if not config.round_deadline:
        config.refuse(("late", "deadline_grace"), "changes nothing without --round-deadline")
    elif config.clients:
        config.refuse(("deadline_grace",), "is for real clocks: by a simulated one nobody is a little late")
    elif config.round_timeout <= (waited := config.round_deadline + config.deadline_grace):
        raise UserError(
            f"--round-timeout {config.round_timeout:g} must be longer than --round-deadline and --deadline-grace, "
            f"{waited:g} s: who is late by the one is left out, by the other it has failed"
        )
    if 0 < config.spawn < config.num_partitions:
        refuse_turns(config, f"{config.num_partitions} clients take turns in {config.spawn} processes (--spawn)")
    size = cohort_size(config.num_partitions, config.fraction_train)
    if config.over_select > 1 and asked_for(size, config) > config.num_partitions:
        raise UserError(
            f"--over-select {config.over_select:g} of a cohort of {size} is {asked_for(size, config)} clients, and "
            f"there are {config.num_partitions}: lower --fraction-train"
        )
