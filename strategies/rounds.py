"""The round loop: drives any object with Flower's `Strategy` interface, one round after the other.

A round: choose the cohort, let the strategy make its messages, send them, check every reply, hand the good ones to the
strategy in the order of cid, evaluate the new global arrays on the clients and (meanwhile) on the server, tell the
callbacks. Flower's own loop has no callbacks, no per-client results, no seed, and waits for nodes for ever.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fedkeras.config import Config
from fedkeras.errors import RunFailed
from strategies.alike import alike
from strategies.arrays import record, view
from strategies.checks import fault_of_arrays, fault_of_evaluate, fault_of_train
from strategies.cohort import CohortGrid, sample
from strategies.exchange import exchange, in_order
from strategies.fedavg import metrics_of
from strategies.nodes import Nodes
from strategies.rows import add_means, row

log = logging.getLogger("fedkeras")

Evaluate = Callable[[int, ArrayRecord], dict[str, float] | None]


@dataclass
class Outcome:
    """What came of a round. `rows` are the lines of history.csv."""

    round: int
    num_rounds: int
    asked: int = 0
    answered: int = 0
    rows: list[dict] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0
    arrays: ArrayRecord | None = None


class TooFewAnswers(RunFailed):
    """A round that fewer clients answered than `min-results`."""


def run_rounds(
    strategy: Strategy,
    grid: Grid,
    nodes: Nodes,
    arrays: ArrayRecord,
    config: Config,
    evaluate: Evaluate | None = None,
    callbacks: Iterable[Callable[[Outcome], None]] = (),
    tell: Mapping | None = None,
) -> ArrayRecord:
    """Train for `config.num_server_rounds` rounds and return the final global arrays.

    `evaluate(round, arrays)` is the central evaluation: {"num-examples", "loss", ...}. Each callback is called with
    the round's Outcome. `tell` goes into the config of every message. Raises RunFailed if clients stay away, or if a
    round fails `config.max_retries` + 1 times.
    """
    for server_round in range(1, config.num_server_rounds + 1):
        for attempt in range(config.max_retries + 1):
            try:
                outcome = one_round(strategy, grid, nodes, arrays, config, server_round, evaluate, tell or {})
                break
            except TooFewAnswers as error:
                if attempt == config.max_retries:
                    raise
                log.warning("round %d is repeated: %s", server_round, error)
        arrays = outcome.arrays
        for callback in callbacks:
            callback(outcome)
    return arrays


def one_round(
    strategy: Strategy,
    grid: Grid,
    nodes: Nodes,
    arrays: ArrayRecord,
    config: Config,
    server_round: int,
    evaluate: Evaluate | None,
    tell: Mapping,
) -> Outcome:
    """One round of training and evaluation. Raises TooFewAnswers; `arrays` are not changed."""
    outcome, started = Outcome(server_round, config.num_server_rounds), time.monotonic()

    cohort = _cohort(nodes.wait(), config, config.fraction_train, server_round, "train")
    outcome.asked = len(cohort)
    messages = strategy.configure_train(
        server_round, arrays, ConfigRecord(dict(tell)), CohortGrid(grid, cohort.values())
    )
    replies = _good_replies(
        grid, messages, cohort, config, lambda reply: fault_of_train(reply, arrays), MessageType.TRAIN, outcome
    )
    if not getattr(strategy, "streams", False):
        # A strategy may change its own state when it aggregates, so it sees nothing of a round that is to be repeated.
        replies = alike(list(replies), arrays)
        _require(config.min_results, outcome)
    try:
        new_arrays, extra = strategy.aggregate_train(server_round, replies)
    except ValueError as error:
        raise TooFewAnswers(f"round {server_round} cannot be aggregated: {error}") from error
    _require(config.min_results, outcome)
    outcome.arrays = _conform(new_arrays, arrays, strategy)
    log.info("round %d is aggregated", server_round)
    add_means(outcome.rows, server_round, MessageType.TRAIN, extra, time.monotonic() - started)
    outcome.answered = len(cohort) - len(outcome.failures)

    _evaluate_round(strategy, grid, nodes, config, server_round, evaluate, tell, outcome)
    outcome.seconds = time.monotonic() - started
    return outcome


def _evaluate_round(
    strategy: Strategy,
    grid: Grid,
    nodes: Nodes,
    config: Config,
    server_round: int,
    evaluate: Evaluate | None,
    tell: Mapping,
    outcome: Outcome,
) -> None:
    """Evaluate outcome.arrays on the clients and, while they work, on the server."""
    started, replies = time.monotonic(), iter(())
    if config.fraction_evaluate > 0:
        cohort = _cohort(nodes.wait(), config, config.fraction_evaluate, server_round, "evaluate")
        view_of_cohort = CohortGrid(grid, cohort.values())
        messages = strategy.configure_evaluate(server_round, outcome.arrays, ConfigRecord(dict(tell)), view_of_cohort)
        replies = _good_replies(grid, messages, cohort, config, fault_of_evaluate, MessageType.EVALUATE, outcome)
    if evaluate and (metrics := evaluate(server_round, outcome.arrays)) is not None:
        outcome.rows.append(row(server_round, MessageType.EVALUATE, "server", metrics))
    extra = strategy.aggregate_evaluate(server_round, alike(list(replies)))
    add_means(outcome.rows, server_round, MessageType.EVALUATE, extra, time.monotonic() - started)


def _cohort(nodes: dict[int, int], config: Config, fraction: float, server_round: int, purpose: str) -> dict[int, int]:
    """The cohort as {cid: node id}, ascending in cid."""
    cids = sample(nodes, config.num_partitions, fraction, config.seed, server_round, purpose)
    return {cid: nodes[cid] for cid in cids}


def _good_replies(
    grid: Grid,
    messages: Iterable[Message],
    cohort: dict[int, int],
    config: Config,
    fault_of: Callable[[Message], str | None],
    phase: str,
    outcome: Outcome,
) -> Iterator[Message]:
    """Send the messages now; then yield good replies in the order of cid, and note rows and failures in `outcome`."""
    cid_of = {node_id: cid for cid, node_id in cohort.items()}
    messages = sorted(messages, key=lambda message: cid_of[message.metadata.dst_node_id])
    expected = [cid_of[message.metadata.dst_node_id] for message in messages]
    arriving = exchange(grid, messages, config.round_timeout)

    def checked() -> Iterator[tuple[int, Message | None]]:
        for reply in arriving:
            cid = cid_of[reply.metadata.src_node_id]
            fault = fault_of(reply)
            if fault:
                outcome.failures[cid] = fault
            yield cid, None if fault else reply

    def committed() -> Iterator[Message]:
        answered = set()
        for cid, reply in in_order(checked(), expected):
            answered.add(cid)
            outcome.rows.append(row(outcome.round, phase, str(cid), metrics_of(reply.content)))
            yield reply
        for cid in expected:
            if cid not in answered and cid not in outcome.failures:
                outcome.failures[cid] = f"no answer within {config.round_timeout:g} s (--round-timeout)"

    return committed()


def _require(min_results: int, outcome: Outcome) -> None:
    """Raise TooFewAnswers, with the clients' reasons, if the round has fewer than `min_results` good train replies."""
    good = sum(line["phase"] == MessageType.TRAIN for line in outcome.rows)
    if good < min_results:
        reasons = "; ".join(f"client {cid}: {reason}" for cid, reason in sorted(outcome.failures.items())[:3])
        raise TooFewAnswers(
            f"round {outcome.round} got {good} of at least {min_results} answers (--min-results); {reasons}"
        )


def _conform(new: ArrayRecord | None, old: ArrayRecord, strategy: Strategy) -> ArrayRecord:
    """The strategy's arrays in the dtypes of the old ones (some of Flower's return float64)."""
    if new is None:
        raise RunFailed(f"{type(strategy).__name__} returned no arrays")
    if new.keys() == old.keys() and any(new[name].dtype != old[name].dtype for name in old):
        new = record({name: _cast(view(array), np.dtype(old[name].dtype)) for name, array in new.items()})
    if fault := fault_of_arrays(new, old):
        raise RunFailed(f"{type(strategy).__name__} returned arrays that cannot go on: {fault}")
    return ArrayRecord({name: new[name] for name in old})


def _cast(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """`array` as `dtype`; a mean of whole numbers is rounded, for it may be 2.9999 where all clients sent 3."""
    with np.errstate(over="ignore"):  # what overflows is not finite, which is looked for next
        return (np.rint(array) if dtype.kind in "iu" else array).astype(dtype)
