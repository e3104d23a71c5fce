"""A round's answers: which are good, in the order of cid, and what is noted of the others."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from flwr.app import ArrayRecord, Message, MessageType
from flwr.serverapp import Grid

from fedkeras.config import Config
from fedkeras.errors import RunFailed
from fedkeras.federation.callbacks import UNWATCHED, Callback
from fedkeras.federation.exchange import exchange, in_order
from fedkeras.federation.metrics import row
from fedkeras.federation.records import payload
from fedkeras.federation.sampling import FailureTracker
from fedkeras.strategies.fedavg import metrics_of

PARTS = {MessageType.TRAIN: "training", MessageType.EVALUATE: "evaluation"}
"""What the time until a phase's last answer is called in `Outcome.timing`."""


@dataclass
class RoundResult:
    """What came of a round. `rows` are the lines of history.csv."""

    round: int
    num_rounds: int
    asked: int = 0
    answered: int = 0
    rows: list[dict] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0
    arrays: ArrayRecord | None = None
    timing: dict[str, float] = field(default_factory=dict)
    """Wall seconds by part of the round: waiting, training (with the way there and back), aggregation, evaluation."""
    _since: float = field(default_factory=time.monotonic)

    def took(self, part: str) -> None:
        """Count the time since the last call, or since the start, as this part's."""
        now = time.monotonic()
        self.timing[part] = self.timing.get(part, 0.0) + now - self._since
        self._since = now


class TooFewAnswers(RunFailed):
    """A round that fewer clients answered than `min-results`, or whose answers the strategy cannot use.

    `failed` are the clients that gave no good answer.
    """

    def __init__(self, text: str, outcome: RoundResult) -> None:
        super().__init__(text)
        self.failed = set(outcome.failures)


def good_replies(
    grid: Grid,
    messages: Iterable[Message],
    cohort: dict[int, int],
    config: Config,
    rests: FailureTracker,
    fault_of: Callable[[Message], str | None],
    phase: str,
    outcome: RoundResult,
    watch: Callback = UNWATCHED,
) -> Iterator[Message]:
    """Send the messages now; then yield good replies in the order of cid, and note rows and failures in `outcome`.

    `cohort` is {cid: node id}. `rests` is told who answered and who did not when the last reply is taken; `watch` of
    each as it arrives.
    """
    cid_of = {node_id: cid for cid, node_id in cohort.items()}
    messages = sorted(messages, key=lambda message: cid_of[message.metadata.dst_node_id])
    expected = [cid_of[message.metadata.dst_node_id] for message in messages]
    down = {cid_of[message.metadata.dst_node_id]: payload(message.content) for message in messages}
    arriving = exchange(grid, messages, config.round_timeout)
    faults: dict[int, str] = {}
    lines: dict[int, dict] = {}

    def checked() -> Iterator[tuple[int, Message | None]]:
        arrived = 0
        for reply in arriving:
            arrived += 1
            outcome.took(PARTS[phase])
            cid = cid_of[reply.metadata.src_node_id]
            fault = fault_of(reply)
            if fault:
                faults[cid] = fault
                watch.failed(cid, fault)
            else:
                traffic = payload(reply.content), down[cid]
                lines[cid] = row(outcome.round, phase, str(cid), metrics_of(reply.content), traffic)
                watch.answered(cid, lines[cid])
            yield cid, None if fault else reply
        if arrived < len(expected):
            outcome.took(PARTS[phase])  # in vain, for those that did not answer

    def committed() -> Iterator[Message]:
        answered = set()
        for cid, reply in in_order(checked(), expected):
            answered.add(cid)
            outcome.rows.append(lines[cid])
            yield reply
        late = f"no answer within {config.round_timeout:g} s (--round-timeout)"
        missing = {cid: faults.get(cid, late) for cid in expected if cid not in answered}
        for cid, reason in missing.items():
            outcome.failures.setdefault(cid, reason)  # who failed to train and then to evaluate: why it did not train
            if cid not in faults:
                watch.failed(cid, reason)
        rests.note(phase, outcome.round, answered, missing)

    return committed()


def require(min_results: int, outcome: RoundResult) -> None:
    """Raise TooFewAnswers, with the clients' reasons, if the round has fewer than `min_results` good train replies."""
    good = sum(line["phase"] == MessageType.TRAIN for line in outcome.rows)
    if good < min_results:
        reasons = "; ".join(f"client {cid}: {reason}" for cid, reason in sorted(outcome.failures.items())[:3])
        text = f"round {outcome.round} got {good} of at least {min_results} answers (--min-results); {reasons}"
        raise TooFewAnswers(text, outcome)
