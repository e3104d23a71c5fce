"""Deadlines, over-selection and the time of a round by a simulated clock (`--clients`): a function of seed and work.

Clients say how many steps they did, and their messages' bytes are counted; `client_speeds` makes seconds of both. So
who is in time, how far the others come and what the round takes are the same whenever and wherever it runs.
"""

from collections.abc import Mapping

from flwr.app import Message, MessageType

from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation.client_speeds import ClientSpeeds, in_time
from fedkeras.federation.messages import MOST_STEPS
from fedkeras.federation.metrics import RowTable
from fedkeras.federation.records import payload
from fedkeras.federation.round_clock import STEPS, RoundClock, refuse_what_makes_no_sense, with_limits
from fedkeras.reports.history import BYTES, SIMULATED_SECONDS


class SimulatedRoundClock(RoundClock):
    """The clock of a training phase; testing takes no simulated time."""

    seconds = None
    over = False

    def __init__(self, config: Config, wanted: int, speeds: ClientSpeeds) -> None:
        super().__init__(config, MessageType.TRAIN, wanted)
        self.holds = config.over_select > 1
        self._speeds = speeds
        self._took: dict[int, float] = {}

    def prepare(self, messages: Mapping[int, Message]) -> Mapping[int, Message]:
        """Each client is told how many steps it has time for, and asked how many it did (0: as many as there are)."""
        limits: dict[int, Mapping[str, int | float]] = {}
        for cid, message in messages.items():
            most = 0
            if self._partial:
                # What comes back has the size of what was sent; a mod may make it smaller, and then it comes earlier.
                most = self._speeds.steps_within(cid, self._deadline, 2 * payload(message.content))
                if not most:
                    self.left_out[cid] = f"has no time for a step within {self._deadline:g} s (--round-deadline)"
                    continue
            limits[cid] = {MOST_STEPS: most}
        return with_limits(messages, limits)

    def arrived(self, cid: int, line: RowTable) -> None:
        """Its time goes into its line."""
        seconds = self._speeds.seconds(cid, int(line[STEPS]), sum(int(line[name]) for name in BYTES))
        line[SIMULATED_SECONDS] = seconds
        if self._deadline and not self._partial and not in_time(seconds, self._deadline):
            self.left_out[cid] = f"takes {seconds:.4g} s, {self._deadline:g} s are allowed (--round-deadline)"
        else:
            self._took[cid] = seconds

    def decide(self) -> None:
        """The fastest are in, of equals the one with the lower cid."""
        for cid in sorted(self._took, key=lambda cid: (self._took[cid], cid))[self.wanted :]:
            seconds = self._took.pop(cid)
            self.left_out[cid] = f"was sent home: {self.wanted} others were faster than {seconds:.4g} s (--over-select)"

    def reason_of_absence(self) -> None:
        """Who says nothing has failed, whatever its simulated time."""
        return None

    def close(self, line: RowTable) -> None:
        """The round took as long as the slowest of those that count, or until the deadline if it waited for more."""
        super().close(line)
        waited = bool(self._deadline) and bool(self.left_out) and len(self._took) < self.wanted
        line[SIMULATED_SECONDS] = self._deadline if waited else max(self._took.values(), default=0.0)


def clock_of(config: Config, phase: str, wanted: int) -> RoundClock:
    """The clock of a phase of a round in which so many good answers are `wanted`. Raises UserError for --clients."""
    speeds = ClientSpeeds.of(config)
    if speeds is not None and phase == MessageType.TRAIN:
        return SimulatedRoundClock(config, wanted, speeds)
    return RoundClock(config, phase, wanted)


def check_flags(config: Config) -> None:
    """Raise UserError, in one line, for flags of time that make no sense, before anything is loaded."""
    refuse_what_makes_no_sense(config)
    speeds = ClientSpeeds.of(config)
    if speeds is None or not config.round_deadline:
        return
    fastest = min(speeds.seconds_per_step(cid) for cid in range(config.num_partitions))
    if config.round_deadline < fastest:
        raise UserError(
            f"--round-deadline {config.round_deadline:g} is shorter than a step of the fastest client, {fastest:.3g} s"
        )
