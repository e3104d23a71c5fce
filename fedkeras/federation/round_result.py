"""What came of a round: its lines of history.csv, who failed and why, where the time went, the new global arrays."""

import time
from dataclasses import dataclass, field

from flwr.app import ArrayRecord

from fedkeras.errors import RunFailed
from fedkeras.federation.client_weights import Weighting
from fedkeras.federation.metrics import RowTable


@dataclass
class RoundResult:
    """What came of a round. `rows` are the lines of history.csv, `failures` reasons by cid."""

    round: int
    num_rounds: int
    asked: int = 0
    answered: int = 0
    rows: list[RowTable] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)
    left_out: dict[int, str] = field(default_factory=dict)
    """Reasons by cid, of those whose work does not count though they have not failed."""
    weightings: dict[str, Weighting[int]] = field(default_factory=dict)
    """By phase, what the clients counted for, by cid."""
    seconds: float = 0.0
    arrays: ArrayRecord | None = None
    timing: dict[str, float] = field(default_factory=dict)
    """Wall seconds by part of the round: waiting, training (with the way there and back), aggregation, evaluation."""
    started: float = field(default_factory=time.monotonic)
    _since: float = field(default_factory=time.monotonic)

    def took(self, part: str) -> None:
        """Count the time since the last call, or since the start, as this part's."""
        now = time.monotonic()
        self.timing[part] = self.timing.get(part, 0.0) + now - self._since
        self._since = now

    def hide_cohort(self) -> None:
        """Keep nothing that tells who, or how many, were asked."""
        self.asked = self.answered = 0
        self.failures, self.left_out, self.weightings = {}, {}, {}

    def end(self) -> "RoundResult":
        """The round is over: its wall time is known."""
        self.seconds = time.monotonic() - self.started
        return self


class TooFewReplies(RunFailed):
    """A round that fewer clients answered than `min-results`, or whose replies the strategy cannot use.

    `failed` are the clients that gave no good answer, or were late.
    """

    def __init__(self, text: str, result: RoundResult) -> None:
        super().__init__(text)
        self.failed = {*result.failures, *result.left_out}


def require(min_results: int, good: int, result: RoundResult) -> None:
    """Raise TooFewReplies, with the clients' reasons, if the round has fewer than `min_results` good train replies."""
    if good < min_results:
        absent = sorted({**result.left_out, **result.failures}.items())
        reasons = "; ".join(f"client {cid}: {reason}" for cid, reason in absent[:3])
        text = f"round {result.round} got {good} of at least {min_results} answers (--min-results); {reasons}"
        raise TooFewReplies(text, result)
