"""The time that a round of training takes: by a simulated clock (`--clients`), a function of the seed and of its work.

Clients say how many steps they did, and their messages' bytes are counted; `client_speeds` makes seconds of both. A
round takes as long as the slowest of those that it waited for.
"""

from collections.abc import Sequence

from flwr.app import ConfigRecord, Message, MessageType, RecordDict

from fedkeras.config import Config
from fedkeras.federation.client_speeds import ClientSpeeds
from fedkeras.federation.messages import LOCAL_STEPS, MOST_STEPS, metrics_of
from fedkeras.federation.metrics import RowTable, column
from fedkeras.reports.history import BYTES, SIMULATED_SECONDS


class RoundClock:
    """The clock of one phase of a round. Only training is timed: testing takes no simulated time."""

    def __init__(self, config: Config, phase: str) -> None:
        """Raises UserError for --clients that cannot be read."""
        self.speeds = ClientSpeeds.of(config) if phase == MessageType.TRAIN else None
        self._seconds: dict[int, float] = {}

    def prepare(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The messages as they are sent: each asks its client to say how many steps it did."""
        if self.speeds is None:
            return messages
        for content in {id(message.content): message.content for message in messages}.values():
            _ask(content, 0)
        return messages

    def fault(self, reply: Message) -> str | None:
        """What is wrong with what a checked reply says of its steps, in one line, or None."""
        if self.speeds is None:
            return None
        steps = metrics_of(reply.content).get(LOCAL_STEPS)
        return None if type(steps) is int and steps > 0 else f"says that it did {steps!r} steps"

    def arrived(self, cid: int, line: RowTable) -> None:
        """A good answer: its time goes into its line of history.csv."""
        if self.speeds is not None:
            moved = sum(int(line[name]) for name in BYTES)
            self._seconds[cid] = self.speeds.seconds(cid, int(line[column(LOCAL_STEPS)]), moved)
            line[SIMULATED_SECONDS] = self._seconds[cid]

    def close(self, rows: Sequence[RowTable]) -> None:
        """The phase is over: the line of all clients gets the time that it took."""
        if self.speeds is not None and self._seconds:
            for line in rows:
                if line["phase"] == MessageType.TRAIN and line["client"] == "all":
                    line[SIMULATED_SECONDS] = max(self._seconds.values())


def _ask(content: RecordDict, most: int) -> None:
    config = next(entry for entry in content.values() if isinstance(entry, ConfigRecord))
    config[MOST_STEPS] = most
