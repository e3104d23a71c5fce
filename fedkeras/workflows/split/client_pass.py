"""One client's way through its part of a round of split learning: which step comes next, and what a step does.

Batch b of a client takes two steps of the server: F(b), the body's forward pass, whose output the client's tail
and loss wait for, and U(b), the body's update, whose gradient the client's head waits for. With k batches in flight the
order is

    F(0), ..., F(k-1), then U(0), F(k), U(1), F(k+1), ...

always, whatever arrives first: a client sends the activations of its first k batches at once, and those of batch b + k
when it has updated the head by batch b.
"""

from collections.abc import Hashable, Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from fedkeras.config import Config, Value
from fedkeras.federation.dispatcher import SPARE_BYTES, Dispatcher
from fedkeras.federation.messages import metrics_of, num_examples
from fedkeras.federation.records import of_kind, payload
from fedkeras.federation.validation import fault_of_arrays, fault_of_evaluate
from fedkeras.workflows.split.protocol import BACKWARD, LOSS, WEIGHTS


class BodyServer(Protocol):
    """The server's part of the model, the body, with its optimizer. Contents are messages' records, packed for the way.

    What does not fit in a client's content raises ValueError: that is the client's failure.
    """

    names: frozenset[str]
    """the body's weights by name; the others are the clients'."""

    example_bytes: int | None
    """the most bytes of one example's activations on their way; None where its shape is not fixed."""

    def start(self, weights: Mapping[str, np.ndarray]) -> None:
        """Begin a round or an evaluation with these weights of the whole model: new optimizer, no replicas."""

    def begin(self, cid: int, server_round: int, replica: bool) -> None:
        """A client begins its epochs, with a replica of the body or not: random states of its own either way."""

    def forward(self, cid: int, batch: int, content: RecordDict, examples: int) -> tuple[RecordDict, float]:
        """the body on the activations of so many examples: its output to send, and its regularisation terms."""

    def backward(self, cid: int, batch: int, content: RecordDict) -> RecordDict:
        """Take the gradient of its output; return the gradient of its input to send. `update` follows at once."""

    def update(self) -> None:
        """Update the body by the batch that was last taken backward."""

    def test(self, batch: int, content: RecordDict, examples: int) -> tuple[RecordDict, float]:
        """As `forward`, in prediction."""

    def weights(self, replica: int | None = None) -> dict[str, np.ndarray]:
        """the body's weights at the end, or those of a client's replica."""

    def state(self) -> dict[str, np.ndarray]:
        """All of the body and its optimizer, to put back."""

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Put back what `state` gave."""


def limit_of_activations(body: BodyServer, examples: int) -> int | None:
    """The bytes of arrays that a reply with the activations of so many examples may have; None: not known."""
    return None if body.example_bytes is None else examples * body.example_bytes + SPARE_BYTES


class Step(NamedTuple):
    """F, U or (after the last batch) END."""

    kind: str
    batch: int


def schedule(batches: int, in_flight: int) -> Iterator[Step]:
    """The order of one client's steps. No list: how many there are is what the client says."""
    for batch in range(min(in_flight, batches)):
        yield Step("F", batch)
    for batch in range(batches):
        yield Step("U", batch)
        if batch + in_flight < batches:
            yield Step("F", batch + in_flight)
    yield Step("END", batches - 1)


class ClientPass:
    """One client in one round. `weights` and `metrics` are there when it is `done`."""

    def __init__(
        self,
        cid: int,
        dispatcher: Dispatcher,
        body: BodyServer,
        config: Config,
        message_config: Mapping[str, Value],
        in_flight: int,
    ) -> None:
        self.cid, self.examples, self.batches = cid, 0, 0
        self.weight = 0
        """What the client counts for in a mean."""
        self.weights: ArrayRecord | None = None
        self.metrics: Mapping[str, float] = {}
        self._dispatcher, self._body, self._config, self._message_config, self._in_flight = (
            dispatcher,
            body,
            config,
            message_config,
            in_flight,
        )
        self.next: Step | None = None
        """The step that comes next; None before the start and after the end."""
        self._steps: Iterator[Step] = iter(())
        self._first: RecordDict | None = None
        self._like: ArrayRecord | None = None

    @property
    def done(self) -> bool:
        """True if the client has come to its end well."""
        return self.weights is not None

    @property
    def awaited(self) -> Hashable:
        """The tag of the reply that the next step needs."""
        if self.next is None or (self.next.kind == "F" and self.next.batch < self._in_flight):
            return "start"
        kind, batch = self.next
        return ("loss", batch) if kind == "U" else ("backward", batch - (self._in_flight if kind == "F" else 0))

    def started(self, message: Message, like: ArrayRecord, server_round: int, replica: bool) -> None:
        """Take the client's first word, which has been checked: how many examples it has, and its first activations.

        `like` are the weights that it was given.
        """
        self.examples, self._first, self._like = num_examples(message.content), message.content, like
        self.weight = self.examples
        per_epoch = -(-self.examples // self._config.batch_size)
        self.batches = per_epoch * self._config.local_epochs
        self._steps = schedule(self.batches, self._in_flight)
        self.next = next(self._steps)
        self._body.begin(self.cid, server_round, replica)

    def work(self) -> None:
        """Do the next step, waiting for what it needs. If the client fails, nothing comes next."""
        message = None if self.needs_no_reply else self._dispatcher.take(self.cid, self.awaited)
        self.work_on(message)

    @property
    def needs_no_reply(self) -> bool:
        """True if what the next step needs came with the client's first word."""
        return self.awaited == "start" and self._first is not None

    def work_on(self, message: Message | None) -> None:
        """Do the next step with the reply that it awaited."""
        content = message.content if message else self._first if self.needs_no_reply else None
        if content is None or self.cid in self._dispatcher.failures:
            self.next = None
            return
        (kind, batch), self.next = self.next, next(self._steps, None)
        if self.next is None or self.next.batch >= self._in_flight or self.next.kind != "F":
            self._first = None  # the activations in it have been worked on, or are being so
        try:
            if kind == "F":
                output, penalty = self._body.forward(self.cid, batch, content, self._size(batch))
                # The answer is the gradient of what is sent.
                self._send(LOSS, ("loss", batch), output, batch, payload(output) + SPARE_BYTES, penalty=penalty)
            elif kind == "U":
                gradient = self._body.backward(self.cid, batch, content)
                self._send(BACKWARD, ("backward", batch), gradient, batch, self._reply_limit)
                self._body.update()  # while the gradient is on its way and the client at work
            else:
                self._finish(message)
        except ValueError as error:
            self._dispatcher.fail(self.cid, str(error))
            self.next = None

    def _size(self, batch: int) -> int:
        first = batch % (self.batches // self._config.local_epochs) * self._config.batch_size
        return min(self._config.batch_size, self.examples - first)

    @property
    def _reply_limit(self) -> int | None:
        """What the next activations may have, or head and tail at the end."""
        activations = limit_of_activations(self._body, self._config.batch_size)
        return None if activations is None else activations + payload(RecordDict({WEIGHTS: self._like}))

    def _send(
        self, action: str, tag: Hashable, content: RecordDict, batch: int, reply_limit: int | None, **more: float
    ) -> None:
        content["config"] = ConfigRecord({**self._message_config, "batch": batch, **more})
        self._dispatcher.send([self.cid], action, tag, content, reply_limit)

    def _finish(self, message: Message) -> None:
        if fault := fault_of_evaluate(message):
            raise ValueError(fault)
        weights = of_kind(message.content, ArrayRecord).get(WEIGHTS)
        if weights is None or (fault := fault_of_arrays(weights, self._like)):
            raise ValueError(fault or "sent no weights at the end")
        if num_examples(message.content) != self.examples:
            raise ValueError(f"had {self.examples} examples and has {num_examples(message.content)} at the end")
        self.weights, self.metrics = weights, metrics_of(message.content)
