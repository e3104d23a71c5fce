"""What all ways to train by rounds share: the loop with its retries, and a phase of a round from cohort to means."""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field

from flwr.app import ArrayRecord, Message, MessageType, MetricRecord

from fedkeras.callbacks import Row
from fedkeras.errors import UserError
from fedkeras.factory import WeightNames
from fedkeras.federation import records, strategy_adapter
from fedkeras.federation.claimed_steps import fault_of_steps
from fedkeras.federation.client_weights import Weighting
from fedkeras.federation.dispatcher import Dispatcher
from fedkeras.federation.initial_weights import initial_weights
from fedkeras.federation.messages import num_examples
from fedkeras.federation.metrics import RowTable, add_means, row
from fedkeras.federation.round_clock import RoundClock, asked_for
from fedkeras.federation.round_result import RoundResult, TooFewReplies
from fedkeras.federation.simulated_clock import clock_of
from fedkeras.federation.trainable import Trainable, trainable_of
from fedkeras.federation.validation import LOSS_NOT_FINITE
from fedkeras.reports import write_predictions
from fedkeras.reports.history import BYTES, KEYS
from fedkeras.workflows.base import RunContext, Summary

log = logging.getLogger("fedkeras")

OneRound = Callable[[RunContext, ArrayRecord, int, Set[int] | None], RoundResult]
"""(run, arrays, round, who failed in its earlier attempts) -> what came of it; raises TooFewReplies."""


def run_rounds(run: RunContext, one_round: OneRound) -> Summary:
    """Do all rounds that are left, save the model and finish the run; return its summary.

    Raises RunFailed if clients stay away, or if a round fails `config.max_retries` + 1 times.
    """
    if run.start is None:
        own = _own_model(run)  # beside the clients' joining
        arrays, claimed = initial_weights(run.grid, run.config, run.clients)
        trainable, done = _trainable(arrays, own, claimed), 0
    else:
        arrays, done = records.record(run.start.weights), run.start.round
        trainable = trainable_of(arrays, run.start.trainable)
    run = run.knowing(trainable, arrays)
    log.info("%d of %d arrays are trainable", len(trainable), len(arrays))
    if done < run.config.num_server_rounds:
        run.clients.wait()  # here and not in the round: who interrupts while nobody is connected need not wait for it
    run.callbacks.on_run_begin(run)
    stopping = run.early_stopping
    if stopping is None or not stopping.stopped:
        arrays = repeat_rounds(run, one_round, arrays, done + 1)
    final = arrays if stopping is None else stopping.kept(arrays)
    weights = records.views(final)
    if run.mods.whole_model:
        run.central.save(weights, run.folder.model_path)
    else:
        run.central.save(weights, run.folder.shared_layers_path, partly=True)
    if run.mods.whole_model and (predictions := run.central.predictions(weights)):
        write_predictions(run.folder.predictions_path, *predictions)
    more = {} if stopping is None else {"model_round": stopping.best_round}
    return run.finish(num_weights=sum(array.size for array in weights.values()), **more)


def _own_model(run: RunContext) -> WeightNames | None:
    """What the server's own model says of its weights; None where it has none to test, or to hand out.

    A server that does neither needs no TensorFlow before its end, and goes by what a client says.
    """
    if run.evaluate_fn is None and not run.config.data_source:
        return None
    return run.central.weight_names()


def _trainable(arrays: ArrayRecord, own: WeightNames | None, claimed: Sequence[str] | None) -> Trainable:
    """Which arrays are trained: the server's own model knows; else the client that has sent them says it."""
    if own is not None and own.names == tuple(arrays):
        return trainable_of(arrays, own.trainable)
    if claimed is None:
        log.warning(
            "the client that sent the initial weights did not say which of them are trained: all count as trained "
            "that are no whole numbers and not called a moving mean or variance"
        )
    return trainable_of(arrays, claimed)


def repeat_rounds(run: RunContext, one_round: OneRound, arrays: ArrayRecord, first_round: int) -> ArrayRecord:
    """Do the rounds from `first_round` on; return the last one's arrays. A callback may end it early."""
    try:
        for server_round in range(first_round, run.config.num_server_rounds + 1):
            if run.callbacks.on_round_begin(server_round):
                break
            result = _with_retries(run, one_round, arrays, server_round)
            arrays = result.arrays
            if run.callbacks.on_round_end(result):
                break
    finally:
        run.callbacks.on_rounds_end()
    return arrays


@dataclass
class Phase:
    """Training or evaluation in one round: who is asked, and what has come of it."""

    run: RunContext
    result: RoundResult
    name: str
    """MessageType.TRAIN or EVALUATE."""
    cohort: dict[int, int]
    """{cid: node id}, ascending in cid."""
    dispatcher: Dispatcher
    clock: RoundClock
    started: float = field(default_factory=time.monotonic)
    weighting: Weighting[int] = field(default_factory=lambda: Weighting({}, {}))
    """What the clients count for; known before the first good answer is used."""
    diverged: bool = False
    """True: no client's evaluation is good, and for some the loss was not finite."""

    def client_row(self, cid: int, metrics: Mapping[str, float]) -> RowTable:
        """A client's line of history.csv, with the bytes that it has sent and was sent by now; callbacks are told."""
        line = row(
            self.result.round, self.name, str(cid), metrics, (self.dispatcher.up[cid], self.dispatcher.down[cid])
        )
        self.run.callbacks.on_client_result(cid, line if self.run.mods.shows_clients else _without_figures(line))
        return line

    def fault_of_count(self, cid: int, reply: Message) -> str | None:
        """What is wrong with the number of examples that a client states, in one line, or None."""
        return self.run.client_weights.fault(self.name, cid, num_examples(reply.content))

    def fault_of_steps(self, cid: int, reply: Message, sent: Message) -> str | None:
        """What is wrong with the number of steps that a client states, in one line, or None."""
        examples = self.run.client_weights.examples(self.name, cid, num_examples(reply.content))
        return fault_of_steps(reply, sent, self.run.config, examples)

    def weigh(self, cids: Collection[int], claims: Mapping[int, int]) -> None:
        """Settle what the clients `cids` that were asked count for, by what those that answered well have stated."""
        self.weighting = self.run.client_weights.settle(self.name, cids, claims)
        self.result.weightings[self.name] = self.weighting

    def weigh_begun(self, claims: Mapping[int, int]) -> Mapping[int, int]:
        """What clients that have begun, and stated their examples, count for: {cid: weight}."""
        return self.run.client_weights.settle(self.name, claims, claims).weights

    def commit(self, cid: int, line: RowTable) -> None:
        """Take the line of a good answer into the round, with as many examples as count."""
        line["num_examples"] = self.weighting.counts.get(cid, line["num_examples"])
        self.result.rows.append(line)

    def failed(self, cid: int, reason: str) -> None:
        """A client gives no good answer; callbacks are told."""
        self.run.callbacks.on_client_failure(cid, reason)

    def left_out(self, cid: int, reason: str) -> None:
        """A client's work does not count in this phase, and it has not failed; callbacks are told."""
        if self.name == MessageType.TRAIN:
            self.result.left_out[cid] = reason
        log.info("round %d: client %d is left out of %s: %s", self.result.round, cid, self.name, reason)
        self.run.callbacks.on_client_left_out(cid, reason)

    def note(self, answered: Collection[int], failures: Mapping[int, str]) -> None:
        """All replies have come: who answered well and who did not counts for the rounds to come."""
        for cid, reason in sorted(failures.items()):
            self.result.failures.setdefault(cid, reason)  # who failed in both phases: why it did not train
        if self.name == MessageType.EVALUATE and not answered:
            self.diverged = any(LOSS_NOT_FINITE in reason for reason in failures.values())
        self.run.failures.note(self.name, self.result.round, answered, failures)

    def add_means(self, strategy_metrics: MetricRecord | None = None) -> None:
        """Append the line `all` to the round's rows; then the clients' own go, where a mod hides them."""
        rows, seconds = self.result.rows, time.monotonic() - self.started
        if not self.run.mods.shows_means:
            rows[:] = [line for line in rows if line["phase"] != self.name]
            if strategy_metrics:
                rows.append(row(self.result.round, self.name, "all", {**strategy_metrics, "seconds": seconds}))
            return
        if self.diverged:  # or the training loss, which looks well, would stand for the run
            rows.append(row(self.result.round, self.name, "all", {"loss": float("nan"), "seconds": seconds}))
        self.run.metric_names.limit([line for line in rows if line["phase"] == self.name])
        weights = {str(cid): weight for cid, weight in self.weighting.weights.items()}
        robust = strategy_adapter.is_robust(self.run.strategy)
        add_means(rows, self.result.round, self.name, strategy_metrics, seconds, weights, robust)
        for line in rows:
            if (line["phase"], line["client"]) == (self.name, "all"):
                self.clock.close(line)
        if not self.run.mods.shows_clients:
            rows[:] = [line for line in rows if line["phase"] != self.name or line["client"] in ("all", "server")]


def open_phase(run: RunContext, result: RoundResult, name: str, failed: Set[int] | None = None) -> Phase:
    """Wait for clients, choose the cohort, and tell the callbacks.

    In a repeated round, `failed` are the clients that failed in its earlier attempts; others are asked before them, and
    what they may lack is offered to them again: one may have been started anew, without what its predecessor had.
    """
    started = time.monotonic()
    if failed:
        run.clients.offer_again(sorted(failed))
    connected = run.clients.wait()
    chosen = run.mods.sample(run.failures.eligible(connected, name, result.round), result.round, name)
    wanted = run.failures.wanted(name) if chosen is None else len(chosen)
    asked = asked_for(wanted, run.config) if name == MessageType.TRAIN else wanted
    if chosen is not None and asked > wanted:
        raise UserError("--over-select: a mod of this run chooses the cohort, and as many as it chooses are asked")
    cids = run.failures.cohort(connected, name, result.round, failed, asked) if chosen is None else chosen
    cohort = {cid: connected[cid] for cid in cids}
    if name == MessageType.TRAIN:
        result.asked = len(cohort)
    result.took("waiting")
    run.callbacks.on_phase_begin(result.round, name, cohort, run.failures.suspended(name, result.round))
    dispatcher = Dispatcher(run.grid, cohort, run.config.round_timeout)
    return Phase(run, result, name, cohort, dispatcher, clock_of(run.config, name, wanted), started)


def add_central_row(run: RunContext, result: RoundResult) -> None:
    """Evaluate the round's arrays on the central test set, if there is one."""
    if run.evaluate_fn and (metrics := run.evaluate_fn(result.round, result.arrays)) is not None:
        more = run.mods.central_metrics(run.central, records.views(result.arrays))
        result.rows.append(row(result.round, MessageType.EVALUATE, "server", {**metrics, **more}))


def _with_retries(run: RunContext, one_round: OneRound, arrays: ArrayRecord, server_round: int) -> RoundResult:
    failed, retries_left = None, run.config.max_retries
    while True:
        try:
            return one_round(run, arrays, server_round, failed)
        except TooFewReplies as error:
            if not retries_left:
                raise
            failed, retries_left = (failed or set()) | error.failed, retries_left - 1
            log.warning("round %d is repeated: %s", server_round, error)


def _without_figures(line: Row) -> Row:
    return {name: value for name, value in line.items() if name in (*KEYS, *BYTES, "num_examples")} | {
        "num_examples": 0
    }
