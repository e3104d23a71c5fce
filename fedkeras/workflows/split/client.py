"""The client's half of split learning: what it answers to the server's messages.

What these return is all that leaves a client: never an example, never a label.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from flwr.app import Message, MetricRecord, RecordDict

from fedkeras import factory
from fedkeras.config import Config
from fedkeras.federation.initial_weights import INITIAL_WEIGHTS, content_of
from fedkeras.federation.records import record, views
from fedkeras.federation.requests import ClientRequest
from fedkeras.provisioning.described_clients import shared_in
from fedkeras.reports import round_lines
from fedkeras.workflows.split import protocol
from fedkeras.workflows.split.client_state import ClientState
from fedkeras.workflows.split.protocol import EVALUATION_BATCH, WEIGHTS
from fedkeras.workflows.split.split_client import SplitClient, examples, held_out, plan, split_client, weights


class SplitRequest:
    """One message to one client, while it is answered. `state` is set by `begin` or `recall`."""

    def __init__(self, config: Config, cid: int, content: RecordDict) -> None:
        self.config, self.cid, self.content = config, cid, content
        self.sent = content["config"]
        self.stateless = bool(self.sent["stateless"])
        self.all_share = shared_in(self.sent)
        self.client: SplitClient = split_client(config)
        self.head_and_tail = self.client.head_and_tail
        self.state = ClientState(str(self.sent["epoch"]))
        self._begun = time.perf_counter()

    @property
    def batch(self) -> int:
        """The batch that the message is about."""
        return int(self.sent["batch"])

    @property
    def seconds(self) -> float:
        """What the client has spent computing in this epoch until now."""
        return self.state.seconds + time.perf_counter() - self._begun

    def begin(self, state: ClientState) -> None:
        """Begin with the weights in the message."""
        self.state = state
        self.client.states.begin(self.cid, state, views(self.content[WEIGHTS]), self.stateless)

    def recall(self, context_state: RecordDict) -> None:
        """Go on with what the last message left. Raises UserError if that is gone."""
        self.state = self.client.states.recall(self.cid, self.state.epoch, context_state, self.stateless)

    def keep(self, context_state: RecordDict) -> None:
        """Count the time and, where the process does not last, put everything away."""
        self.state.seconds = self.seconds
        if self.stateless:
            self.client.states.keep(self.state, context_state)

    def received(self) -> np.ndarray:
        """The batch in the message: the body's output or a gradient. Raises ValueError."""
        return protocol.unpack(self.content, self.batch, self.config.split_dtype)

    @property
    def x(self) -> np.ndarray:
        """The client's training examples."""
        return examples(self.config, self.cid, self.all_share)[0][0]

    @property
    def y(self) -> np.ndarray:
        """Their targets."""
        return examples(self.config, self.cid, self.all_share)[0][1]

    def penalty(self) -> float:
        """The head's and the body's regularisation terms for the batch."""
        return self.state.penalties.pop(self.batch) + float(self.sent["penalty"])

    def reply(self, batches: dict[int, np.ndarray], **metrics: int) -> RecordDict:
        """These batches packed for the way."""
        content = protocol.pack(batches, self.config.split_dtype)
        if metrics:
            content["metrics"] = MetricRecord({name.replace("_", "-"): value for name, value in metrics.items()})
        return content

    def metrics(self) -> dict[str, float]:
        """What has come of it."""
        return factory.metrics_of(self.head_and_tail.outcome(), self.seconds)


def split_start(request: SplitRequest) -> RecordDict:
    """Begin a training: the activations of the first batches, and how many examples there are."""
    request.begin(ClientState(request.state.epoch, int(request.sent["server-round"]), int(request.sent["in-flight"])))
    own = plan(request.config, request.cid, request.state.server_round)
    request.head_and_tail.set_seeds(own.seeds)
    _show(request, 0, len(own.batches))
    first = {batch: _forward(request, batch) for batch in range(min(request.state.in_flight, len(own.batches)))}
    return request.reply(first, num_examples=len(request.x))


def split_loss(request: SplitRequest) -> RecordDict:
    """The tail, the loss, and the tail's update: the gradient of the body's output."""
    own = plan(request.config, request.cid, request.state.server_round)
    if request.state.in_flight > 1 and own.opens_epoch(request.batch):
        request.head_and_tail.outcome()
    chosen, own_weights = own.batches[request.batch], weights(request.config, request.cid, request.all_share)
    gradient, _ = request.head_and_tail.loss_and_gradient(
        request.received(),
        request.y[chosen],
        penalty=request.penalty(),
        sample_weight=None if own_weights is None else own_weights[chosen],
    )
    return request.reply({request.batch: gradient})


def split_backward(request: SplitRequest) -> RecordDict:
    """Update the head by a batch; then the activations of a later one, or what has come of it all."""
    own = plan(request.config, request.cid, request.state.server_round)
    if request.stateless:
        request.head_and_tail.backward_again(
            request.x[own.batches[request.batch]], request.received(), request.state.seeds
        )
    else:
        request.head_and_tail.backward(request.received(), (request.cid, request.batch))
    following = request.batch + request.state.in_flight
    _show(request, request.batch + 1, len(own.batches))
    if following < len(own.batches):
        return request.reply({following: _forward(request, following)})
    if request.batch < len(own.batches) - 1:
        return RecordDict()
    request.head_and_tail.finalize()
    metrics = MetricRecord(request.metrics())
    round_lines.shown.trained(request.cid, request.state.server_round, request.config.num_server_rounds, metrics)
    return RecordDict({WEIGHTS: record(request.head_and_tail.get_weights()), "metrics": metrics})


def split_test(request: SplitRequest) -> RecordDict:
    """Begin an evaluation: the first activations, and how many examples there are."""
    request.begin(request.state)
    x, _ = held_out(request.config, request.cid, request.all_share)
    return request.reply({0: _forward_eval(request, 0, x)}, num_examples=len(x))


def split_score(request: SplitRequest) -> RecordDict:
    """The tail and the loss on a batch; then the next activations, or the metrics."""
    x, y = held_out(request.config, request.cid, request.all_share)
    request.head_and_tail.finish_eval(
        request.received(),
        y[request.batch * EVALUATION_BATCH : (request.batch + 1) * EVALUATION_BATCH],
        request.penalty(),
    )
    following = request.batch + 1
    if following * EVALUATION_BATCH < len(x):
        return request.reply({following: _forward_eval(request, following, x)})
    metrics = request.metrics()
    metrics.pop("distance_correlation", None)  # it is taken in training alone
    content = MetricRecord(metrics)
    round_lines.shown.tested(request.cid, 0, request.config.num_server_rounds, content)
    return RecordDict({"metrics": content})


def _show(request: SplitRequest, done: int, batches: int) -> None:
    """How far a round is on this client's terminal, in batches of all its epochs."""
    where = request.cid, request.state.server_round, request.config.num_server_rounds
    round_lines.shown.at(*where, f"training, batch {done}/{batches}", done / batches)


STEPS = (split_start, split_loss, split_backward, split_test, split_score)


@dataclass(frozen=True)
class StepHandler:
    """Answers one kind of message: recalls what the client was at, does the step, keeps what there is to keep."""

    step: Callable[[SplitRequest], RecordDict]

    def __call__(self, request: ClientRequest) -> Message:
        """The reply. Raises UserError, ValueError."""
        return request.reply_with(
            answer(self.step, request.config, request.cid, request.content, request.context.state)
        )


def answer(
    step: Callable[[SplitRequest], RecordDict], config: Config, cid: int, content: RecordDict, context_state: RecordDict
) -> RecordDict:
    """The content of the reply to a message. `context_state` is the client's `context.state`."""
    request = SplitRequest(config, cid, content)
    if step not in (split_start, split_test):
        request.recall(context_state)
    reply = step(request)
    request.keep(context_state)
    return reply


def initial_weights(request: ClientRequest) -> Message:
    """The untrained whole model's weights, from the seed, and which are trained; so the server can begin with them."""
    if request.config.class_weight != "none":
        weights(request.config, request.cid, shared_in(request.sent))  # whether the targets are classes: before a round
    client = split_client(request.config)
    return request.reply_with(content_of(record(client.initial), client.trainable))


HANDLERS = {INITIAL_WEIGHTS: initial_weights} | {f"query.{step.__name__}": StepHandler(step) for step in STEPS}
"""Message type -> handler."""


def _forward(request: SplitRequest, batch: int) -> np.ndarray:
    """The head on a training batch."""
    own = plan(request.config, request.cid, request.state.server_round)
    # What is reported are the last epoch's means. With several batches in flight the tail is still in the epoch before.
    if request.state.in_flight == 1 and own.opens_epoch(batch):
        request.head_and_tail.outcome()
    request.state.seeds = request.head_and_tail.seeds()
    key = None if request.stateless else (request.cid, batch)
    activations, request.state.penalties[batch] = request.head_and_tail.forward(request.x[own.batches[batch]], key=key)
    return activations


def _forward_eval(request: SplitRequest, batch: int, x: np.ndarray) -> np.ndarray:
    """The head on a test batch."""
    activations, request.state.penalties[batch] = request.head_and_tail.forward_eval(
        x[batch * EVALUATION_BATCH : (batch + 1) * EVALUATION_BATCH]
    )
    return activations
