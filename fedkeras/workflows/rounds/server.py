"""Federated rounds on the server: drives any object with Flower's `Strategy` interface, one round after the other.

A round: choose the cohort, let the strategy make its messages, send them, check every reply, hand the good ones to the
strategy in the order of cid, evaluate the new global arrays on the clients and (meanwhile) on the server, tell the
callbacks. Flower's own loop has no callbacks, no per-client results, no seed, and waits for nodes for ever.
"""

import collections
import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING

from flwr.app import ArrayRecord, Message, MessageType

from fedkeras import factory
from fedkeras.config import Config
from fedkeras.federation import strategy_adapter
from fedkeras.federation.client_weights import with_weight
from fedkeras.federation.dispatcher import SPARE_BYTES
from fedkeras.federation.grids import CohortGrid
from fedkeras.federation.messages import metrics_of
from fedkeras.federation.records import of_kind, payload
from fedkeras.federation.reply_order import in_order
from fedkeras.federation.requests import ClientContext, Handler
from fedkeras.federation.round_clock import require_clocks
from fedkeras.federation.round_result import RoundResult, TooFewReplies, require
from fedkeras.federation.sampling import cohort_size
from fedkeras.federation.trainable import trainable_of
from fedkeras.federation.validation import (
    fault_of_answer,
    fault_of_evaluate,
    fault_of_size,
    fault_of_train,
    with_common_records,
)
from fedkeras.provisioning import provisioned_run
from fedkeras.reports import ReportSection, RunFolder, simulated_time
from fedkeras.reports.history import PART_OF_PHASE
from fedkeras.reports.server_view import UPDATE, Seen, Sight
from fedkeras.workflows.base import RunContext, Summary, Workflow
from fedkeras.workflows.beside_training import figures_seen, seen_beside_training
from fedkeras.workflows.round_loop import Phase, add_central_row, open_phase, repeat_rounds, run_rounds
from fedkeras.workflows.traffic import Sizes, Traffic, of_rounds

if TYPE_CHECKING:
    import keras

log = logging.getLogger("fedkeras")


class RoundsWorkflow(Workflow):
    """Clients train the whole model on their own examples; a strategy makes one of what comes back."""

    name = "federated"
    sends_updates = True
    tests_again = True
    is_timed = True

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """Training, evaluation, initial weights."""
        from fedkeras.workflows.rounds.client import HANDLERS

        return HANDLERS

    def prepare_client(self, client: ClientContext) -> None:
        """Data and model, unless the server has yet to hand them out."""
        from fedkeras.workflows.rounds.client import prepare

        prepare(client)

    def run_name(self, config: Config) -> str:
        """Data set, or model that is handed out, and strategy."""
        return provisioned_run.run_name(config, config.strategy)

    def keeps_client_state(self, config: Config) -> bool:
        """A client that was handed something has it in its own process."""
        return bool(config.data_source)

    def preview(self, config: Config) -> Sequence[str]:
        """Who trains what for how long, and what travels."""
        asked = cohort_size(config.num_partitions, config.fraction_train)
        return (
            f"{config.num_server_rounds} rounds of {config.strategy}: in each, {asked} of {config.num_partitions} "
            f"clients train {config.model or factory.model_name(config)} for {config.local_epochs} epochs",
            "the model's weights travel to each client of the cohort and back; examples and labels stay where they are",
        )

    def traffic(self, config: Config, model: "keras.Model", sizes: Sizes | None) -> Traffic | None:
        """All weights there and back, and once more for the evaluation."""
        return of_rounds(config, model)

    def server_saw(self, config: Config) -> Sight:
        """The weights that each client sends back, and figures."""
        update = Seen("weights after its training in each round, and so its update of the global ones")
        return {UPDATE: update} | figures_seen() | seen_beside_training(config)

    def reply_limit(self, config: Config, message: Message) -> int | None:
        """A train reply has the arrays that were sent, and a little more; an evaluation sends no arrays.

        Where a strategy sends none (its clients have the global ones already), what comes is not limited here.
        """
        if message.metadata.message_type != MessageType.TRAIN:
            return SPARE_BYTES
        size = payload(message.content)
        return size + SPARE_BYTES if size else None

    def report_sections(self, folder: RunFolder) -> Sequence[ReportSection]:
        """The figures against simulated seconds, where there are any."""
        return simulated_time.sections(folder)

    def run(self, run: RunContext) -> Summary:
        """All rounds."""
        require_clocks(run.config, run.grid)
        return run_rounds(run, functools.partial(one_round, self))

    def evaluate(self, run: RunContext, result: RoundResult) -> None:
        """As each round does it."""
        evaluate_round(self, run, result)

    def train(self, run: RunContext, arrays: ArrayRecord, first_round: int = 1) -> ArrayRecord:
        """The rounds alone, from these global arrays on: the last round's. For a `bare_run`."""
        return repeat_rounds(run, functools.partial(one_round, self), arrays, first_round)


def one_round(
    workflow: Workflow, run: RunContext, arrays: ArrayRecord, server_round: int, failed: Set[int] | None = None
) -> RoundResult:
    """One round of training and evaluation. Raises TooFewReplies; `arrays` are not changed.

    In a repeated round, `failed` are the clients that failed in its earlier attempts; others are asked before them.
    """
    strategy, config = run.strategy, run.config
    result = RoundResult(server_round, config.num_server_rounds)
    kept = _kept(run, arrays)
    phase = open_phase(run, result, MessageType.TRAIN, failed)
    strategy_adapter.tell_cohort(strategy, phase.cohort)
    replies = good_replies(workflow, phase, arrays, lambda reply, sent: _fault_of(reply, sent, arrays))
    if not getattr(strategy, "streams", False):
        # A strategy may change its own state when it aggregates, so it sees nothing of a round that is to be repeated.
        replies = with_common_records(list(replies), arrays)
        _require(phase)
    try:
        new_arrays, strategy_metrics = strategy_adapter.aggregate_train(strategy, server_round, replies, kept)
    except ValueError as error:
        _take_all(replies)
        raise TooFewReplies(f"round {server_round} cannot be aggregated: {error}", result) from error
    _take_all(replies)
    _require(phase)
    result.arrays = strategy_adapter.conform(new_arrays, arrays, strategy)
    result.took("aggregation")
    log.info("round %d is aggregated", server_round)
    phase.add_means(strategy_metrics)
    result.answered = result.asked - len(result.failures) - len(result.left_out)
    if not run.mods.shows_cohort:
        _tell_failures(result)
        result.hide_cohort()
    evaluate_round(workflow, run, result)
    result.took("evaluation")
    return result.end()


def evaluate_round(workflow: Workflow, run: RunContext, result: RoundResult) -> None:
    """Evaluate result.arrays on the clients and, while they work, on the server."""
    phase, replies = None, iter(())
    if run.config.fraction_evaluate > 0 and run.mods.shows_means:
        phase = open_phase(run, result, MessageType.EVALUATE)
        replies = good_replies(workflow, phase, result.arrays, lambda reply, sent: fault_of_evaluate(reply))
    add_central_row(run, result)
    metrics = strategy_adapter.aggregate_evaluate(run.strategy, result.round, with_common_records(list(replies)))
    if phase:
        phase.add_means(metrics)


def good_replies(
    workflow: Workflow, phase: Phase, arrays: ArrayRecord, fault_of: Callable[[Message, Message], str | None]
) -> Iterator[Message]:
    """Let the strategy make its messages and send them now; then yield good replies in the order of cid.

    Rows and failures are noted in the phase's result. `fault_of(reply, sent)` says what is wrong with a reply to the
    message that its client was sent. Callbacks are told of each as it arrives; who answered and who did not counts
    when the last reply is taken.
    """
    run, result = phase.run, phase.result
    cid_of = {node_id: cid for cid, node_id in phase.cohort.items()}
    shown = CohortGrid(run.grid, phase.cohort.values())
    messages = strategy_adapter.configure(run.strategy, phase.name, result.round, arrays, shown, _kept(run, arrays))
    clock = phase.clock
    prepared = clock.prepare(dict(sorted((cid_of[each.metadata.dst_node_id], each) for each in messages)))
    expected = list(prepared)
    exchange = run.mods.over(phase.dispatcher, functools.partial(workflow.reply_limit, run.config))
    arriving = exchange.exchange(list(prepared.values()), clock.seconds)
    faults: dict[int, str] = {}
    rows: dict[int, dict] = {}
    # What a client claims counts for no more than the others' claims let it, so these must be known first.
    decided = run.client_weights.decided(phase.name, expected)

    def checked() -> Iterator[tuple[int, Message | None]]:
        arrived = 0
        for reply in arriving:
            arrived += 1
            result.took(PART_OF_PHASE[phase.name])
            cid, sent = cid_of[reply.metadata.src_node_id], exchange.sent[reply.metadata.src_node_id]
            fault = fault_of_size(reply, exchange.reply_limit(sent)) or fault_of(reply, sent)
            fault = fault or phase.fault_of_count(cid, reply) or phase.fault_of_steps(cid, reply, sent)
            if fault:
                faults[cid] = fault
                phase.failed(cid, fault)
            else:
                rows[cid] = phase.client_row(cid, metrics_of(reply.content))
                clock.arrived(cid, rows[cid])
            yield cid, None if fault else reply
            if clock.over:
                phase.dispatcher.close()  # the others are sent home
                break
        clock.decide()
        if arrived < len(expected):
            result.took(PART_OF_PHASE[phase.name])  # in vain, for those that did not answer

    def committed() -> Iterator[Message]:
        answered = set()
        if decided:
            phase.weigh(expected, {})
        for cid, reply in in_order(checked(), expected, hold=not decided or clock.holds):
            if cid in clock.left_out:
                continue
            if not (decided or answered):
                claims = {each: int(line["num_examples"]) for each, line in rows.items() if each not in clock.left_out}
                phase.weigh(expected, claims)
            answered.add(cid)
            phase.commit(cid, rows[cid])
            yield with_weight(reply, phase.weighting.weights[cid])
        absent = clock.reason_of_absence()
        if absent:
            clock.left_out |= {cid: absent for cid in expected if cid not in {*answered, *faults, *clock.left_out}}
        left_out = clock.left_out
        for cid, reason in sorted(left_out.items()):
            phase.left_out(cid, reason)
        missing = {cid: faults.get(cid, phase.dispatcher.late) for cid in expected if cid not in {*answered, *left_out}}
        for cid in missing:
            if cid not in faults:
                phase.failed(cid, missing[cid])
        phase.note(answered, missing)

    return committed()


def _fault_of(reply: Message, sent: Message, arrays: ArrayRecord) -> str | None:
    """What is wrong with a train reply to the message that its client was sent."""
    return fault_of_train(reply, _arrays_in(sent, arrays)) or fault_of_answer(reply, sent)


def _tell_failures(result: RoundResult) -> None:
    """Say on the terminal and in run.log what none of the run's tables will have."""
    for cid, reason in result.failures.items():
        log.info("round %d: client %d failed: %s", result.round, cid, reason)
    if result.failures:
        cid, reason = next(iter(result.failures.items()))
        others = f" and {len(result.failures) - 1} more" if len(result.failures) > 1 else ""
        log.warning("round %d: client %d%s failed and counts as no change: %s", result.round, cid, others, reason)


def _kept(run: RunContext, arrays: ArrayRecord) -> Set[str]:
    """The arrays that the run's strategy is not shown."""
    trainable = trainable_of(arrays, None) if run.trainable is None else run.trainable
    return strategy_adapter.kept_from(run.strategy, arrays, trainable)


def _arrays_in(sent: Message, otherwise: ArrayRecord) -> ArrayRecord:
    """What a client was sent; a strategy that sends no arrays expects the global ones."""
    return next(iter(of_kind(sent.content, ArrayRecord).values()), otherwise)


def _require(phase: Phase) -> None:
    good = sum(line["phase"] == phase.name for line in phase.result.rows)
    if phase.run.mods.needs_replies:
        require(phase.run.config.min_results, good, phase.result)


def _take_all(replies: Iterable[Message]) -> None:
    """A strategy may stop in the middle; who fails is counted whatever the order of arrival, so after the last one."""
    collections.deque(replies, maxlen=0)
