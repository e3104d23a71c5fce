"""The loop over rounds that all ways to train share: retries, callbacks, an early stop, who takes part."""

import logging
from collections.abc import Callable, Iterable, Set

from flwr.app import ArrayRecord

from fedkeras.config import Config
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.round_result import RoundResult, TooFewAnswers
from fedkeras.federation.sampling import FailureTracker

log = logging.getLogger("fedkeras")

OneRound = Callable[[ArrayRecord, int, Set[int] | None], RoundResult]
"""(arrays, round, who failed in its earlier attempts) -> the round's Outcome; raises TooFewAnswers."""


def repeat_rounds(
    one_round: OneRound,
    arrays: ArrayRecord,
    config: Config,
    callbacks: Iterable[Callable[[RoundResult], None]] = (),
    first_round: int = 1,
    stop: Callable[[], bool] = lambda: False,
) -> ArrayRecord:
    """Do the rounds from `first_round` on; return the last one's arrays. `callbacks` and `stop` as in run_rounds."""
    for server_round in range(first_round, config.num_server_rounds + 1):
        outcome = _with_retries(one_round, arrays, server_round, config.max_retries)
        arrays = outcome.arrays
        for callback in callbacks:
            callback(outcome)
        if stop():
            break
    return arrays


def cohort_of(
    nodes: ClientManager, rests: FailureTracker, phase: str, server_round: int, failed: Set[int] | None = None
) -> dict[int, int]:
    """The cohort as {cid: node id}, ascending in cid.

    In a repeated round, nodes that hand things out (`offer_again`) are told first who failed: it may be a client that
    was started again, lacks what its predecessor had, and would fail at every further attempt.
    """
    if failed and hasattr(nodes, "offer_again"):
        nodes.offer_again(failed)
    connected = nodes.wait()
    return {cid: connected[cid] for cid in rests.cohort(connected, phase, server_round, failed)}


def _with_retries(one_round: OneRound, arrays: ArrayRecord, server_round: int, retries_left: int) -> RoundResult:
    failed = None
    while True:
        try:
            return one_round(arrays, server_round, failed)
        except TooFewAnswers as error:
            if not retries_left:
                raise
            failed, retries_left = (failed or set()) | error.failed, retries_left - 1
            log.warning("round %d is repeated: %s", server_round, error)
