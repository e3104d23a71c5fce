"""The loop of asynchronous rounds: work is given out, updates come in, and K of them make the next version.

A version stands where a round does: in history.csv, for callbacks, for a checkpoint. Version t is the model after t
aggregations; who is given work while it is the newest is told `server-round` t + 1, as in the round that would follow.
"""

import logging
import math
import time
from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict

from fedkeras.federation import strategy_adapter
from fedkeras.federation.claimed_steps import fault_of_steps
from fedkeras.federation.client_speeds import ClientSpeeds
from fedkeras.federation.client_weights import Weighting
from fedkeras.federation.dispatcher import Dispatcher
from fedkeras.federation.grids import CohortGrid
from fedkeras.federation.messages import LOCAL_STEPS, MOST_STEPS, TRAINING_NUMBER, arrays_of, metrics_of, num_examples
from fedkeras.federation.records import of_kind
from fedkeras.federation.round_clock import RoundClock
from fedkeras.federation.round_result import RoundResult, TooFewReplies
from fedkeras.federation.sampling import sampling_order
from fedkeras.federation.trainable import trainable_of
from fedkeras.federation.validation import fault_of_answer, fault_of_size, fault_of_train, with_common_records
from fedkeras.reports.history import PART_OF_PHASE, SIMULATED_SECONDS, UPDATES
from fedkeras.workflows.base import RunContext, Workflow
from fedkeras.workflows.fedbuff.buffer import STALENESS, Buffer, Update, from_newest, staleness_weight
from fedkeras.workflows.fedbuff.clocks import Arrival, Assignment, Clock
from fedkeras.workflows.fedbuff.progress import Progress
from fedkeras.workflows.round_loop import Phase, add_central_row

log = logging.getLogger("fedkeras")


@dataclass(frozen=True)
class BufferTerms:
    """What the flags say, with what they leave open decided."""

    buffer_size: int
    concurrency: int
    staleness_exponent: float
    max_staleness: int
    """0: any."""
    learning_rate: float

    @property
    def share(self) -> int:
        """Updates of a version after which a client waits for it, as long as others are at work."""
        return max(1, math.ceil(self.buffer_size / self.concurrency))


@dataclass
class Versions:
    """One run's asynchronous training. `rounds` is the synchronous way to train, for its limits and its evaluation."""

    run: RunContext
    rounds: Workflow
    terms: BufferTerms
    clock: Clock
    progress: Progress
    under_way: dict[int, Assignment] = field(default_factory=dict)
    """By cid: a client has one training at once."""

    def __post_init__(self) -> None:
        self.dispatcher = Dispatcher(self.run.grid, {}, self.run.config.round_timeout)
        self._exchange = self.run.mods.over(
            self.dispatcher, lambda message: self.rounds.reply_limit(self.run.config, message)
        )
        self.speeds = ClientSpeeds.of(self.run.config)
        self.clock.fault_of_steps = self._fault_of_claimed
        self._buffer = Buffer()
        self.taken: list[Update] = []
        """The updates of the last version."""
        self._failed: set[int] = set()
        """Who has failed since the last version, and is not asked again before the next one."""
        self._connected: Mapping[int, int] = {}
        self._version, self._arrays = -1, ArrayRecord()
        self._contents: dict[int, RecordDict] = {}
        """What the newest version's train messages hold, by node id."""

    def one_version(
        self, run: RunContext, arrays: ArrayRecord, number: int, failed: Set[int] | None = None
    ) -> RoundResult:
        """Make version `number` of K updates, test it, and return what came of it. Raises TooFewReplies.

        `failed`: it is tried again, after none of the clients was left; the updates that had come are kept.
        """
        result, started = RoundResult(number, run.config.num_server_rounds), time.monotonic()
        if failed:
            run.clients.offer_again(sorted(failed))
        self._failed = set()
        self._connected = run.clients.wait()
        if self._version != number - 1:
            self._begin(number - 1, arrays)
        # The clock of rounds is given nothing to do: a version takes what this loop's clock says.
        clock = RoundClock(run.config, MessageType.EVALUATE, wanted=0)
        phase = Phase(run, result, MessageType.TRAIN, {}, self.dispatcher, clock, started)
        self._give_out(phase)
        result.took("waiting")
        suspended = run.failures.suspended(MessageType.TRAIN, number)
        cohort = {cid: self._connected.get(cid, 0) for cid in sorted(self.under_way)}
        run.callbacks.on_phase_begin(number, MessageType.TRAIN, cohort, suspended)
        failures = self._fill(phase)
        self._aggregate(phase, arrays, failures)
        self._begin(number, result.arrays)
        last = number == run.config.num_server_rounds
        if not last:
            self._give_out(phase)
        self.progress.keep(self.clock, self.under_way)
        if last:
            self.stop()
        self._evaluate(result, last)
        result.took("evaluation")
        return result.end()

    def stop(self) -> None:
        """Wait for nothing that is under way; clients that have not begun need not."""
        self.dispatcher.close()
        self.under_way.clear()

    def go_on(self, version: int, arrays: ArrayRecord) -> None:
        """Take up a run at this version: what was under way is sent again where the clock is a simulated one."""
        if self.progress.num_under_way and not self.clock.repeatable:
            log.warning(
                "%d trainings were under way at the checkpoint, and are given up: nobody knows when who would have "
                "answered, so the run goes on otherwise than it would have",
                self.progress.num_under_way,
            )
        if not self.progress.under_way:
            return
        self._connected = self.run.clients.wait()
        if gone := sorted({int(each[0]) for each in self.progress.under_way} - {*self._connected}):
            self.progress.given_up += len(gone)
            log.warning(
                "%d trainings that were under way at the checkpoint are given up, for their clients are not connected "
                "(%s): the run goes on otherwise than it would have, and is not repeatable",
                len(gone),
                ", ".join(map(str, gone[:10])),
            )
        for base, begun_from in sorted(self.progress.bases.items()):
            if base != version:
                self._begin(base, begun_from)
                self._send_again(base)
        self._begin(version, arrays)  # last: a strategy steps from what it was shown last
        self._send_again(version)

    def _send_again(self, base: int) -> None:
        for cid, number, version, started, finished in self.progress.under_way:
            if version == base and cid in self._connected:
                self._send(int(cid), int(number), float(started), None if finished < 0 else float(finished))

    def _begin(self, version: int, arrays: ArrayRecord) -> None:
        """From now on this is the newest version."""
        self._version, self._arrays = version, arrays
        self._kept = strategy_adapter.kept_from(self.run.strategy, arrays, self._trainable)
        self._contents = {}
        self._configure()

    @property
    def _trainable(self) -> tuple[str, ...]:
        return trainable_of(self._arrays, None) if self.run.trainable is None else self.run.trainable

    def _give_out(self, phase: Phase) -> None:
        """Give idle clients the newest version, until as many are at work as may be."""
        if self.clock.same_instant(self.under_way):
            return
        self._connected = self.run.clients.wait()
        self._failed &= {*self._connected}  # who was gone and is back is asked again
        idle = {*self.run.failures.eligible(self._connected, MessageType.TRAIN, phase.result.round)}
        idle -= {*self.under_way} | self._failed
        has_its_share = {cid for cid, count in self._buffer.counts().items() if count >= self.terms.share}
        config = self.run.config
        while idle and len(self.under_way) < self.terms.concurrency:
            wanted = idle - has_its_share
            if not wanted and self.under_way:
                return  # one fast client would fill the buffer alone, while all others are at work
            order = sampling_order(
                wanted or idle, config.num_partitions, config.seed, self.progress.given, MessageType.TRAIN
            )
            cid = order[0]
            idle.discard(cid)
            if self._content_for(self._connected[cid]) is not None:
                self._send(cid, self.progress.next_number(cid), self.clock.now)

    def _send(self, cid: int, number: int, started: float, finished: float | None = None) -> None:
        node_id = self._connected[cid]
        content = RecordDict(dict(self._content_for(node_id).items()))
        name, table = next(iter(of_kind(content, ConfigRecord).items()), ("config", ConfigRecord()))
        asked = {} if self.speeds is None else {MOST_STEPS: 0}  # all of them, and it is to say how many they are
        content[name] = ConfigRecord({**table, **asked, TRAINING_NUMBER: number})
        message = Message(content, node_id, MessageType.TRAIN, group_id=str(self._version + 1))
        training = Assignment(cid, number, self._version, self._arrays, message, started, finished)
        self._exchange.sent[node_id] = message
        self.dispatcher.add_client(cid, node_id)
        limit = self._exchange.reply_limit(message)
        encoded = self._exchange.encoded(message)
        self.dispatcher.send([cid], MessageType.TRAIN, training.tag, encoded.content, limit)
        self.under_way[cid] = training

    def _content_for(self, node_id: int) -> RecordDict | None:
        """What the strategy sends this node; None: nothing."""
        if node_id not in self._contents:
            self._configure()
        return self._contents.get(node_id)

    def _configure(self) -> None:
        """Let the strategy make its messages of this version, for those that are connected and have none yet.

        Once for all of them, also where nobody is given work: an optimizer on the server steps from what it was shown.
        """
        nodes = [each for each in self._connected.values() if each not in self._contents]
        shown = CohortGrid(self.run.grid, nodes)
        for message in strategy_adapter.configure(
            self.run.strategy, MessageType.TRAIN, self._version + 1, self._arrays, shown, self._kept
        ):
            self._contents[message.metadata.dst_node_id] = message.content

    def _fill(self, phase: Phase) -> dict[int, str]:
        """Take what comes until the buffer is full; return why clients have failed, by cid. Raises TooFewReplies."""
        failures: dict[int, str] = {}
        while len(self._buffer) < self.terms.buffer_size:
            self._give_out(phase)
            if not self.under_way:
                phase.result.failures.update(failures)
                phase.note((), failures)
                reasons = "; ".join(f"client {cid}: {reason}" for cid, reason in sorted(failures.items())[:3])
                raise TooFewReplies(
                    f"version {phase.result.round} has {len(self._buffer)} of {self.terms.buffer_size} updates, and "
                    f"nobody is left to send more; {reasons or 'no client can be asked'}",
                    phase.result,
                )
            arrival = self.clock.next(self.under_way, self.dispatcher)
            if arrival is None:
                continue
            cid = arrival.training.cid
            del self.under_way[cid]
            if fault := self._take(phase, arrival):
                failures[cid] = fault
                self._failed.add(cid)
                self.dispatcher.fail(cid, fault)
                phase.failed(cid, fault)
            self.dispatcher.up.pop(cid, None)
            self.dispatcher.down.pop(cid, None)
        phase.result.took(PART_OF_PHASE[MessageType.TRAIN])
        return failures

    def _take(self, phase: Phase, arrival: Arrival) -> str | None:
        """Put an answer into the buffer, or say what is wrong with it."""
        training, reply = arrival.training, arrival.reply
        if reply is None:
            return arrival.reason
        self._exchange.sent[reply.metadata.src_node_id] = training.sent
        reply = self._exchange.decoded(reply)
        fault = fault_of_size(reply, self._exchange.reply_limit(training.sent))
        fault = fault or fault_of_train(reply, training.arrays) or fault_of_answer(reply, training.sent)
        fault = fault or phase.fault_of_count(training.cid, reply) or self._fault_of_steps(training.cid, reply)
        fault = fault or phase.fault_of_steps(training.cid, reply, training.sent)
        if fault:
            return fault
        staleness = self._version - training.version
        terms = self.terms
        if terms.max_staleness and staleness > terms.max_staleness:
            self.progress.too_stale += 1
            log.info(
                "client %d: an update that is %d versions old is left out (--max-staleness %d)",
                training.cid, staleness, terms.max_staleness,
            )  # fmt: skip
            return None
        weight = staleness_weight(staleness, terms.staleness_exponent)
        line = phase.client_row(training.cid, {**metrics_of(reply.content), STALENESS: staleness, UPDATES: 1})
        if self.speeds is not None:
            line[SIMULATED_SECONDS] = self.clock.now - training.started
        update = Update(training.cid, training.number, training.version, staleness, weight, line)
        arrays = from_newest(
            arrays_of(reply.content), training.arrays, self._arrays, weight, terms.learning_rate, self._trainable
        )
        self._buffer.add(update, reply, arrays)
        return None

    def _fault_of_claimed(self, training: Assignment, reply: Message) -> str | None:
        """What is wrong with the steps of an answer that is only now looked at for its time; a bad one takes none."""
        if self.speeds is None or fault_of_train(reply, training.arrays) is not None:
            return None  # no steps were asked for, or `_take` says what is wrong
        examples = self.run.client_weights.examples(MessageType.TRAIN, training.cid, num_examples(reply.content))
        return fault_of_steps(reply, training.sent, self.run.config, examples)

    def _fault_of_steps(self, cid: int, reply: Message) -> str | None:
        """What is wrong with what a client says of its steps: they decide when it comes by a simulated clock."""
        if self.speeds is None:
            return None
        steps = metrics_of(reply.content).get(LOCAL_STEPS)
        if type(steps) is not int or steps < 1:
            return f"says that it did {steps!r} steps"
        if (known := self.progress.steps.setdefault(cid, steps)) != steps:
            return f"says that it did {steps} steps, and {known} in its first training"
        return None

    def _aggregate(self, phase: Phase, arrays: ArrayRecord, failures: Mapping[int, str]) -> None:
        """Make the new version of the buffer, and the lines of history.csv."""
        buffer, self._buffer = self._buffer, Buffer()
        run, result = self.run, phase.result
        lines, counts = buffer.lines(), buffer.counts()
        phase.weigh([*lines], {cid: int(line["num_examples"]) for cid, line in lines.items()})
        weighting = phase.weighting
        replies = buffer.replies(weighting.weights)
        if not getattr(run.strategy, "streams", False):
            replies = with_common_records(list(replies), arrays)
        try:
            new, metrics = strategy_adapter.aggregate_train(run.strategy, result.round, replies, self._kept)
        except ValueError as error:
            raise TooFewReplies(f"version {result.round} cannot be aggregated: {error}", result) from error
        result.arrays = strategy_adapter.conform(new, arrays, run.strategy)
        result.took("aggregation")
        # A client counts for as much as it has updates in this version.
        weights = {cid: weight * counts[cid] for cid, weight in weighting.weights.items()}
        phase.weighting = Weighting(weighting.counts, weights, weighting.claims, weighting.median)
        for cid, line in lines.items():
            phase.commit(cid, line)
        phase.note({*lines}, {cid: reason for cid, reason in failures.items() if cid not in lines})
        result.asked, result.answered = len({*lines, *failures}), len(lines)
        phase.add_means(metrics)
        updates = self.taken = sorted(buffer.updates, key=lambda update: update.key)
        for line in result.rows:
            if line["client"] == "all":
                line[UPDATES] = len(updates)
                line[STALENESS] = sum(update.staleness for update in updates) / len(updates)
                if self.speeds is not None:
                    line[SIMULATED_SECONDS] = self.clock.now - self.progress.seconds
        log.info("version %d is made of %d updates", result.round, sum(counts.values()))

    def _evaluate(self, result: RoundResult, last: bool) -> None:
        """On the server; on the clients too where that costs no time: by a simulated clock, or at the end."""
        if last or self.clock.repeatable:
            self.rounds.evaluate(self.run, result)
        else:
            add_central_row(self.run, result)
