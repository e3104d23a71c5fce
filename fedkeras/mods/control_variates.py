"""The clients' half of SCAFFOLD: each client keeps a control variate, and corrects its gradients by it.

S. P. Karimireddy, S. Kale, M. Mohri, S. Reddi, S. Stich, A. T. Suresh, "SCAFFOLD: Stochastic Controlled Averaging for
Federated Learning", ICML 2020, arXiv:1910.06378, algorithm 1. With the server's control variate c and its own c_i a
client takes K steps from x to y_i along g + c - c_i, and then (option II)

    c_i  <-  c_i + Delta_i          Delta_i  =  - c + (x - y_i) / (eta_l K)

which is the mean of the gradients it has met. With momentum K is what the steps add up to
(`fedkeras.federation.local_steps`), so that this stays true; the paper has none. Delta_i depends on nothing but what
the server has sent and is sent in any round, so it is not sent too, as it is in the paper: both sides compute it, to
the same bit. So a round costs twice FedAvg's bytes down, and no more up.

c_i is as large as the trainable arrays, float32, and stays with its client (`fedkeras.mods.client_state`). Who has lost
it takes c in its place, so that its gradients are not turned by what it has not.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.serverapp.strategy import Strategy

from fedkeras.callbacks import Callback
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation.base_strategy import BaseStrategy
from fedkeras.federation.local_steps import accumulated_steps, momentum_of
from fedkeras.federation.messages import LOCAL_STEPS, OBJECTIVE_ARRAYS, arrays_of, metrics_of
from fedkeras.federation.records import of_kind, record, views
from fedkeras.federation.requests import ClientRequest
from fedkeras.mods.base import CallNext, Mod, ModelBytes
from fedkeras.mods.client_state import CommittedStates, KeptState
from fedkeras.named_code import parse_specs
from fedkeras.reports.run_folder import JsonTable
from fedkeras.reports.server_view import Sight

NAME = "control-variates"
VARIATE, STATE = "control-variate", "control-variates"
"""Records of a train message: the server's c, and which c_i counts; the reply has the second, of the new one."""
OBJECTIVE = "gradient-correction"
"""It takes c - c_i."""
UNSEEN = {
    "compress": "a client's control variate follows from its update, which the server would not have to the bit",
    "dp": "a client's control variate follows from its update, of which the server is handed a noisy mean alone",
    "dp-sgd": "it has an objective of its own, and its noise would be in the control variates too",
    "secure-aggregation": "a client's control variate follows from its update, which the server would not see",
    **dict.fromkeys(
        ("local-layers", "ditto", "fine-tuning"), "nobody has thought what is corrected in a model of its own"
    ),
}
"""Mods it does not go with, and why."""

Arrays = Mapping[str, np.ndarray]


def change_of(c: Arrays, x: Arrays, y: Arrays, steps: float, learning_rate: float) -> dict[str, np.ndarray]:
    """Delta_i of the arrays in `c`, float32; `steps` is what they add up to. Computed in float64."""
    with np.errstate(over="ignore", invalid="ignore"):  # of a training that has diverged, which is refused elsewhere
        return {
            name: ((x[name].astype(np.float64) - y[name]) / (learning_rate * steps) - own).astype(np.float32)
            for name, own in c.items()
        }


def moved(c: np.ndarray, change: np.ndarray) -> np.ndarray:
    """A control variate after a change, float32, added in float64: on both sides the same bits."""
    return (c.astype(np.float64) + change).astype(np.float32)


class ControlVariates(Mod):
    """`--strategy scaffold` adds it. It sends nothing up but the digest of what a client keeps."""

    needs_updates = True
    keeps_client_state = True

    def __init__(self) -> None:
        self.states = CommittedStates("its control variate")

    def check(self, config: Config) -> None:
        """What must see single updates, or changes them on the way."""
        for name in (spec.name for spec in parse_specs(config.mods, "mods")):
            if name in UNSEEN:
                raise UserError(f"--mods {NAME} does not go with {name}: {UNSEEN[name]}")

    def strategy(self, strategy: Strategy) -> Strategy:
        """The same; raises UserError for one that sends no control variates."""
        if not (isinstance(strategy, BaseStrategy) and NAME in strategy.mods):
            raise UserError(f"--mods {NAME} is half of --strategy scaffold, which adds it: leave it out")
        return strategy

    def choose(self, config: Config) -> Mapping[str, str]:
        """What it costs."""
        words = "each client keeps one as large as the trainable arrays; the server's travels down beside the model"
        if momentum_of(config, config.strategy):
            words += "; with momentum a step counts for all that it moves, which the paper does not have"
        return {"control variates": words}

    # On the client

    def client(self, message: Message, context: Context, call_next: CallNext) -> Message:
        """Train with the correction, and keep the new control variate."""
        variate = message.content.get(VARIATE)
        if message.metadata.message_type != MessageType.TRAIN or not isinstance(variate, ArrayRecord):
            return call_next(message, context)
        request = ClientRequest(context, message)
        table = of_kind(message.content, ConfigRecord).get(STATE, ConfigRecord())
        state, c, x = KeptState.asked_for(table, context, NAME), views(variate), views(request.arrays)
        _require_alike(c, x)
        own = state.recall(like=c)
        if not own:
            own = dict(c) if state.lost else {name: np.zeros_like(array) for name, array in c.items()}
        reply = call_next(_corrected(message, {name: c[name] - own[name] for name in c}), context)
        if reply.has_error():
            return reply
        momentum = momentum_of(request.config, request.config.strategy)
        steps = accumulated_steps(int(metrics_of(reply.content)[LOCAL_STEPS]), momentum)
        change = change_of(c, x, views(arrays_of(reply.content)), steps, request.config.learning_rate)
        kept = state.keep({name: moved(own[name], change[name]) for name in c})
        return Message(RecordDict({**reply.content, STATE: ConfigRecord(kept)}), metadata=reply.metadata)

    # On the server

    def encode(self, message: Message) -> Message:
        """Each client is told which of its own counts; the arrays stay one object."""
        if message.metadata.message_type != MessageType.TRAIN:
            return message
        table = ConfigRecord(self.states.told(message.metadata.dst_node_id))
        return Message(RecordDict({**message.content, STATE: table}), metadata=message.metadata)

    def decode(self, reply: Message, sent: Message) -> Message:
        """The answer without what it says of its state."""
        if sent.metadata.message_type != MessageType.TRAIN:
            return reply
        table = of_kind(reply.content, ConfigRecord).get(STATE)
        if table is None:
            raise ValueError("its answer does not say that it keeps a control variate")
        self.states.take(reply.metadata.src_node_id, table)
        rest = {name: entry for name, entry in reply.content.items() if name != STATE}
        return Message(RecordDict(rest), metadata=reply.metadata)

    def callbacks(self) -> Sequence[Callback]:
        """One that knows which answers have been used."""
        return (self.states,)

    def model_bytes(
        self, without: ModelBytes, arrays: Mapping[str, np.ndarray], trainable: Collection[str]
    ) -> ModelBytes:
        """Once more the trainable arrays down, as float32."""
        own = 4 * sum(arrays[name].size for name in trainable if name in arrays)
        return without._replace(beside=without.beside + own)

    def summary(self) -> JsonTable:
        """How often a client began without its own."""
        return {"control_variates_lost": self.states.lost}

    def server_saw(self, sight: Sight, config: Config) -> Sight:
        """The same: what it adds follows from the update, and is not sent."""
        return sight


def _corrected(message: Message, correction: Arrays) -> Message:
    """The message as the training is to see it. Raises UserError for one that names another objective."""
    content = {name: entry for name, entry in message.content.items() if name not in (VARIATE, STATE)}
    found = of_kind(message.content, ConfigRecord)
    config = found.get("config", ConfigRecord())
    if "objective" in config or "proximal-mu" in config:
        raise UserError(f"--mods {NAME}: SCAFFOLD has an objective of its own, and the server names another")
    content["config"] = ConfigRecord({**config, "objective": OBJECTIVE})
    return Message(RecordDict({**content, OBJECTIVE_ARRAYS: record(correction)}), metadata=message.metadata)


def _require_alike(c: Arrays, x: Arrays) -> None:
    """Raise ValueError for control variates that are none of the model's."""
    for name, array in c.items():
        if name not in x or x[name].shape != array.shape or array.dtype != np.float32:
            raise ValueError(f"the server's control variate '{name}' is of no array of the model")
