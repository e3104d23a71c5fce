"""The client's half of split learning: what it answers to the server's messages.

split_start: weights of M1 and M3 -> the number of examples, and the activations of the first batches
split_loss: M2's output of a batch -> its gradient; M3 is updated
split_backward: the gradient of a batch's activations -> M1 is updated; the next activations, or weights and metrics
split_test, split_score: the same for evaluation on the client's own test set, where nothing is updated

What these return is all that leaves a client: never an example, never a label.
"""

import time
from collections.abc import Callable

import numpy as np
from flwr.app import MetricRecord, RecordDict

from fedkeras import factory
from fedkeras.config import Config
from fedkeras.federation.records import record, views
from fedkeras.workflows.split import protocol
from fedkeras.workflows.split.client_pass import WEIGHTS
from fedkeras.workflows.split.client_state import ClientState
from fedkeras.workflows.split.server import BATCH
from fedkeras.workflows.split.split_client import SplitClient, examples, held_out, plan, resident


class SplitRequest:
    """One message to one client, while it is answered. `turn` is set by `begin` or `recall`."""

    def __init__(self, config: Config, cid: int, content: RecordDict) -> None:
        self.config, self.cid, self.content = config, cid, content
        self.sent = content["config"]
        self.stateless = bool(self.sent["stateless"])
        self.home: SplitClient = resident(config)
        self.ends = self.home.ends
        self.turn = ClientState(str(self.sent["epoch"]))
        self._begun = time.perf_counter()

    @property
    def batch(self) -> int:
        """The batch that the message is about."""
        return int(self.sent["batch"])

    @property
    def seconds(self) -> float:
        """What the client has spent computing in this turn until now."""
        return self.turn.seconds + time.perf_counter() - self._begun

    def begin(self, turn: ClientState) -> None:
        """Begin with the weights in the message."""
        self.turn = turn
        self.home.turns.begin(self.cid, turn, views(self.content[WEIGHTS]), self.stateless)

    def recall(self, state: RecordDict) -> None:
        """Go on with what the last message left. Raises UserError if that is gone."""
        self.turn = self.home.turns.recall(self.cid, self.turn.epoch, state, self.stateless)

    def keep(self, state: RecordDict) -> None:
        """Count the time and, where the process does not last, put everything away."""
        self.turn.seconds = self.seconds
        if self.stateless:
            self.home.turns.keep(self.turn, state)

    def received(self) -> np.ndarray:
        """The batch in the message: M2's output or a gradient. Raises ValueError."""
        return protocol.unpack(self.content, self.batch, self.config.split_dtype)

    def penalty(self) -> float:
        """M1's and M2's regularisation terms for the batch."""
        return self.turn.penalties.pop(self.batch) + float(self.sent["penalty"])

    def reply(self, batches: dict[int, np.ndarray], **metrics: int) -> RecordDict:
        """These batches packed for the way."""
        content = protocol.pack(batches, self.config.split_dtype)
        if metrics:
            content["metrics"] = MetricRecord({name.replace("_", "-"): value for name, value in metrics.items()})
        return content

    def metrics(self) -> dict[str, float]:
        """What has come of the turn."""
        return factory.metrics_of(self.ends.outcome(), self.seconds)


def split_start(task: SplitRequest) -> RecordDict:
    """Begin a training: the activations of the first batches, and how many examples there are."""
    task.begin(ClientState(task.turn.epoch, int(task.sent["server-round"]), int(task.sent["in-flight"])))
    own = plan(task.config, task.cid, task.turn.server_round)
    task.ends.set_seeds(own.seeds)
    first = {batch: _forward(task, batch) for batch in range(min(task.turn.in_flight, len(own.batches)))}
    (x, _), _ = examples(task.config, task.cid)
    return task.reply(first, num_examples=len(x))


def split_loss(task: SplitRequest) -> RecordDict:
    """M3, the loss, and M3's update: the gradient of M2's output."""
    own = plan(task.config, task.cid, task.turn.server_round)
    if task.turn.in_flight > 1 and own.opens_epoch(task.batch):
        task.ends.outcome()
    (_, y), _ = examples(task.config, task.cid)
    gradient, _ = task.ends.loss_and_gradient(task.received(), y[own.batches[task.batch]], penalty=task.penalty())
    return task.reply({task.batch: gradient})


def split_backward(task: SplitRequest) -> RecordDict:
    """Update M1 by a batch; then the activations of a later one, or what has come of it all."""
    own = plan(task.config, task.cid, task.turn.server_round)
    if task.stateless:
        (x, _), _ = examples(task.config, task.cid)
        task.ends.backward_again(x[own.batches[task.batch]], task.received(), task.turn.seeds)
    else:
        task.ends.backward(task.received(), (task.cid, task.batch))
    following = task.batch + task.turn.in_flight
    if following < len(own.batches):
        return task.reply({following: _forward(task, following)})
    if task.batch < len(own.batches) - 1:
        return RecordDict()
    task.ends.finalize()
    return RecordDict({WEIGHTS: record(task.ends.get_weights()), "metrics": MetricRecord(task.metrics())})


def split_test(task: SplitRequest) -> RecordDict:
    """Begin an evaluation: the first activations, and how many examples there are."""
    task.begin(task.turn)
    x, _ = held_out(task.config, task.cid)
    return task.reply({0: _forward_eval(task, 0, x)}, num_examples=len(x))


def split_score(task: SplitRequest) -> RecordDict:
    """M3 and the loss on a batch; then the next activations, or the metrics."""
    x, y = held_out(task.config, task.cid)
    task.ends.finish_eval(task.received(), y[task.batch * BATCH : (task.batch + 1) * BATCH], task.penalty())
    following = task.batch + 1
    if following * BATCH < len(x):
        return task.reply({following: _forward_eval(task, following, x)})
    metrics = task.metrics()
    metrics.pop("distance_correlation", None)  # it is taken in training alone
    return RecordDict({"metrics": MetricRecord(metrics)})


HANDLERS = {handler.__name__: handler for handler in (split_start, split_loss, split_backward, split_test, split_score)}
"""Action -> handler."""


def answer(
    handler: Callable[[SplitRequest], RecordDict], config: Config, cid: int, content: RecordDict, state: RecordDict
) -> RecordDict:
    """The content of the reply to a message. `state` is the client's `context.state`. Raises UserError, ValueError."""
    task = SplitRequest(config, cid, content)
    if handler not in (split_start, split_test):
        task.recall(state)
    reply = handler(task)
    task.keep(state)
    return reply


def _forward(task: SplitRequest, batch: int) -> np.ndarray:
    """M1 on a training batch."""
    own = plan(task.config, task.cid, task.turn.server_round)
    # What is reported are the last epoch's means. With several batches in flight M3 is still in the epoch before.
    if task.turn.in_flight == 1 and own.opens_epoch(batch):
        task.ends.outcome()
    task.turn.seeds = task.ends.seeds()
    (x, _), _ = examples(task.config, task.cid)
    key = None if task.stateless else (task.cid, batch)
    activations, task.turn.penalties[batch] = task.ends.forward(x[own.batches[batch]], key=key)
    return activations


def _forward_eval(task: SplitRequest, batch: int, x: np.ndarray) -> np.ndarray:
    """M1 on a test batch."""
    activations, task.turn.penalties[batch] = task.ends.forward_eval(x[batch * BATCH : (batch + 1) * BATCH])
    return activations
