"""What a round's messages say of clients' own models, never their arrays; and what a client asks its own handlers."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict

from fedkeras.config import Value
from fedkeras.federation.initial_weights import INITIAL_WEIGHTS, LAYER_INDICES, LAYER_KINDS, LAYERS, TRAINABLE
from fedkeras.federation.messages import LOCAL_EPOCHS, OBJECTIVE_ARRAYS, PART, metrics_of
from fedkeras.federation.records import of_kind, record, views
from fedkeras.mods.base import CallNext
from fedkeras.mods.personalisation.kept_layers import LayerArray

TABLE = "own-model"
"""The record beside the arrays: downwards what of a client's own counts, upwards what it has now (`client_state`)."""
LAST, NEW = "last-round", "new-client"
"""Keys of it, downwards: whether no round follows; whether this client was not there in training."""
SECONDS = "seconds"
OBJECTIVE, PROXIMAL_MU = "objective", "proximal-mu"
"""Keys of a train message's configuration, which strategies set."""

Arrays = Mapping[str, np.ndarray]


def table_of(content: RecordDict) -> ConfigRecord:
    """What a message says of it. Raises ValueError if it says nothing: then nobody has encoded it."""
    found = content.get(TABLE)
    if not isinstance(found, ConfigRecord):
        raise ValueError("it says nothing of what is a client's own")
    return found


def key_of_arrays(content: RecordDict) -> str:
    """The name of the record with the model's arrays. Raises ValueError if there is none."""
    found = of_kind(content, ArrayRecord)
    if not found:
        raise ValueError("the message has no arrays")
    return "arrays" if "arrays" in found else next(iter(found))


@dataclass(frozen=True)
class OwnHandlers:
    """This client's own handlers, as they are asked within a round's `message`: nothing of that is sent."""

    message: Message
    context: Context
    call_next: CallNext

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What the message has brought. Raises ValueError."""
        return views(self.message.content[key_of_arrays(self.message.content)])

    def train(
        self,
        arrays: Arrays,
        part: str = "",
        epochs: int = 0,
        objective: str | None = None,
        beside: Arrays | None = None,
    ) -> Message:
        """The answer to: train these arrays. `part`, `epochs` and `objective` where they are not as in the message."""
        config: dict[str, Value] = {PART: part} if part else {}
        config |= {LOCAL_EPOCHS: epochs} if epochs else {}
        # A part has what its mod says: the strategy's objective is for what is sent
        config |= {OBJECTIVE: objective or "", PROXIMAL_MU: 0.0} if part or objective else {}
        return self._ask(MessageType.TRAIN, arrays, config, beside)

    def evaluate(self, arrays: Arrays, part: str = "") -> Message:
        """The answer to: test these arrays."""
        return self._ask(MessageType.EVALUATE, arrays, {PART: part} if part else {})

    def untrained(self) -> tuple[RecordDict, list[LayerArray]]:
        """What the handler says of the untrained model, and the layers of its arrays.

        Raises ValueError where it does not say.
        """
        question = RecordDict({"config": ConfigRecord({LAYERS: True})})
        content = self._answer(INITIAL_WEIGHTS, question).content
        said, arrays = content["config"], content[key_of_arrays(content)]
        columns = [said.get(name) for name in (LAYER_INDICES, LAYERS, LAYER_KINDS)]
        if TRAINABLE not in said or any(not isinstance(each, list) or len(each) != len(arrays) for each in columns):
            raise ValueError("this way to train does not say which layers a model's arrays belong to")
        return content, [LayerArray(*each) for each in zip(arrays, *columns, strict=True)]

    def _ask(self, kind: str, arrays: Arrays, config: Mapping[str, Value], beside: Arrays | None = None) -> Message:
        key = key_of_arrays(self.message.content)
        content = {name: entry for name, entry in self.message.content.items() if name != TABLE}
        content["config"] = ConfigRecord({**self.message.content.get("config", {}), **config})
        more = {} if beside is None else {OBJECTIVE_ARRAYS: record(beside)}
        return self._answer(kind, RecordDict({**content, key: record(arrays), **more}))

    def _answer(self, kind: str, content: RecordDict) -> Message:
        metadata = copy.copy(self.message.metadata)
        metadata.message_type = kind
        reply = self.call_next(Message(content, metadata=metadata), self.context)
        if reply.has_error():
            raise ValueError(reply.error.reason)
        return reply


def trained(reply: Message) -> dict[str, np.ndarray]:
    """The arrays of a train reply."""
    return views(reply.content[key_of_arrays(reply.content)])


def renamed(reply: Message, prefix: str) -> dict[str, int | float]:
    """Figures of a test under other names: "shared-loss", "shared-accuracy". Counts and times have one name."""
    figures = metrics_of(reply.content)
    return {f"{prefix}-{name}": value for name, value in figures.items() if name not in ("num-examples", SECONDS)}


def seconds_of(*replies: Message) -> float:
    """What several answers took together."""
    return sum(float(metrics_of(reply.content).get(SECONDS, 0.0)) for reply in replies)


def answer(to: Message, content: RecordDict, seconds: float, more: Mapping[str, int | float] | None = None) -> Message:
    """An answer to the server: this content, whose figures have these seconds, and more of them."""
    (name,) = of_kind(content, MetricRecord)
    metrics = MetricRecord({**content[name], SECONDS: seconds, **(more or {})})
    return Message(RecordDict({**content, name: metrics}), reply_to=to)
