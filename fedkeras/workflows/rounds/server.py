"""The round loop: drives any object with Flower's `Strategy` interface, one round after the other.

A round: choose the cohort, let the strategy make its messages, send them, check every reply, hand the good ones to the
strategy in the order of cid, evaluate the new global arrays on the clients and (meanwhile) on the server, tell the
callbacks. Flower's own loop has no callbacks, no per-client results, no seed, and waits for nodes for ever.
"""

import collections
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass

from flwr.app import ArrayRecord, MessageType
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fedkeras.config import Config
from fedkeras.federation import strategy_adapter
from fedkeras.federation.callbacks import UNWATCHED, Callback
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.cohort import CohortGrid
from fedkeras.federation.metrics import add_means, row
from fedkeras.federation.round_loop import cohort_of, repeat_rounds
from fedkeras.federation.round_result import RoundResult, TooFewAnswers, good_replies, require
from fedkeras.federation.sampling import FailureTracker
from fedkeras.federation.validation import alike, fault_of_evaluate, fault_of_train

log = logging.getLogger("fedkeras")

Evaluate = Callable[[int, ArrayRecord], dict[str, float] | None]


@dataclass(frozen=True)
class Run:
    """What stays the same from round to round; `rests` remembers who failed."""

    strategy: Strategy
    grid: Grid
    nodes: ClientManager
    config: Config
    rests: FailureTracker
    evaluate: Evaluate | None
    tell: Mapping
    watch: Callback = UNWATCHED


def run_rounds(
    strategy: Strategy,
    grid: Grid,
    nodes: ClientManager,
    arrays: ArrayRecord,
    config: Config,
    evaluate: Evaluate | None = None,
    callbacks: Iterable[Callable[[RoundResult], None]] = (),
    tell: Mapping | None = None,
    first_round: int = 1,
    rests: FailureTracker | None = None,
    stop: Callable[[], bool] = lambda: False,
    watch: Callback = UNWATCHED,
) -> ArrayRecord:
    """Train until round `config.num_server_rounds` is done and return the final global arrays.

    `evaluate(round, arrays)` is the central evaluation: {"num-examples", "loss", ...}. Each callback is called with
    the round's Outcome. `tell` goes into the config of every message. To go on with an earlier run, give `arrays` and
    `rests` as they were after round `first_round` - 1. `stop` is asked after a round's callbacks; True ends the loop.
    `watch` is told what goes on inside of a round.
    Raises RunFailed if clients stay away, if a round fails `config.max_retries` + 1 times, or if the strategy fails.
    """
    run = Run(strategy, grid, nodes, config, rests or FailureTracker(config), evaluate, tell or {}, watch)
    return repeat_rounds(
        lambda arrays, server_round, failed: one_round(run, arrays, server_round, failed),
        arrays,
        config,
        callbacks,
        first_round,
        stop,
    )


def one_round(run: Run, arrays: ArrayRecord, server_round: int, failed: Set[int] | None = None) -> RoundResult:
    """One round of training and evaluation. Raises TooFewAnswers; `arrays` are not changed.

    In a repeated round, `failed` are the clients that failed in its earlier attempts; others are asked before them.
    """
    strategy, config = run.strategy, run.config
    outcome, started = RoundResult(server_round, config.num_server_rounds), time.monotonic()

    cohort = cohort_of(run.nodes, run.rests, MessageType.TRAIN, server_round, failed)
    outcome.asked = len(cohort)
    outcome.took("waiting")
    run.watch.began(server_round, MessageType.TRAIN, cohort, run.rests.resting(MessageType.TRAIN, server_round))
    shown = CohortGrid(run.grid, cohort.values())
    messages = strategy_adapter.configure(strategy, MessageType.TRAIN, server_round, arrays, run.tell, shown)
    replies = good_replies(
        run.grid,
        messages,
        cohort,
        config,
        run.rests,
        lambda reply: fault_of_train(reply, arrays),
        MessageType.TRAIN,
        outcome,
        run.watch,
    )
    if not getattr(strategy, "streams", False):
        # A strategy may change its own state when it aggregates, so it sees nothing of a round that is to be repeated.
        replies = alike(list(replies), arrays)
        require(config.min_results, outcome)
    try:
        new_arrays, extra = strategy_adapter.aggregate_train(strategy, server_round, replies)
    except ValueError as error:
        _take_all(replies)
        raise TooFewAnswers(f"round {server_round} cannot be aggregated: {error}", outcome) from error
    _take_all(replies)
    require(config.min_results, outcome)
    outcome.arrays = strategy_adapter.conform(new_arrays, arrays, strategy)
    outcome.took("aggregation")
    log.info("round %d is aggregated", server_round)
    add_means(outcome.rows, server_round, MessageType.TRAIN, extra, time.monotonic() - started)
    outcome.answered = len(cohort) - len(outcome.failures)

    _evaluate_round(run, outcome)
    outcome.took("evaluation")
    outcome.seconds = time.monotonic() - started
    return outcome


def _evaluate_round(run: Run, outcome: RoundResult) -> None:
    """Evaluate outcome.arrays on the clients and, while they work, on the server."""
    strategy, server_round = run.strategy, outcome.round
    started, replies = time.monotonic(), iter(())
    if run.config.fraction_evaluate > 0:
        cohort = cohort_of(run.nodes, run.rests, MessageType.EVALUATE, server_round)
        outcome.took("waiting")
        resting = run.rests.resting(MessageType.EVALUATE, server_round)
        run.watch.began(server_round, MessageType.EVALUATE, cohort, resting)
        shown = CohortGrid(run.grid, cohort.values())
        messages = strategy_adapter.configure(
            strategy, MessageType.EVALUATE, server_round, outcome.arrays, run.tell, shown
        )
        replies = good_replies(
            *(run.grid, messages, cohort, run.config, run.rests, fault_of_evaluate, MessageType.EVALUATE, outcome),
            run.watch,
        )
    if run.evaluate and (metrics := run.evaluate(server_round, outcome.arrays)) is not None:
        outcome.rows.append(row(server_round, MessageType.EVALUATE, "server", metrics))
    extra = strategy_adapter.aggregate_evaluate(strategy, server_round, alike(list(replies)))
    add_means(outcome.rows, server_round, MessageType.EVALUATE, extra, time.monotonic() - started)


def _take_all(replies: Iterable) -> None:
    """A strategy may stop in the middle; who fails is counted whatever the order of arrival, so after the last one."""
    collections.deque(replies, maxlen=0)
