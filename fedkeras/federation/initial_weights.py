"""The first global weights: the server asks a client for the untrained model's, so it needs no TensorFlow to begin.

With them the client says which of them are trained. That is a claim: the server takes its own model's word where it has
one (workflows/round_loop.py).
"""

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from flwr.app import ArrayRecord, ConfigRecord, ConfigRecordValues, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from fedkeras.config import Config
from fedkeras.errors import RunFailed, UserError, one_line
from fedkeras.federation.dispatcher import Dispatcher
from fedkeras.federation.records import of_kind
from fedkeras.federation.validation import fault_of_arrays

log = logging.getLogger("fedkeras")

INITIAL_WEIGHTS = f"{MessageType.QUERY}.initial_weights"


class Connected(Protocol):
    """Who can be asked."""

    def wait(self) -> dict[int, int]:
        """{cid: node id}, ascending in cid."""


TRAINABLE = "trainable"
"""The key under which a client's answer names its trainable arrays."""

LAYERS, LAYER_KINDS, LAYER_INDICES = "layers", "layer-kinds", "layer-indices"
"""Keys under which it says, asked for LAYERS, which layer each of its arrays belongs to: its name, its class and its
index in the model, lists in the order of the arrays. A mod asks so on the client; no server does."""


class InitialWeights(NamedTuple):
    """The untrained model's arrays, and which of them are trained; None: the client did not say."""

    arrays: ArrayRecord
    trainable: tuple[str, ...] | None


def initial_arrays(grid: Grid, config: Config, clients: Connected) -> ArrayRecord:
    """The arrays of `initial_weights` alone. Raises RunFailed."""
    return initial_weights(grid, config, clients).arrays


def content_of(
    arrays: ArrayRecord, trainable: Sequence[str], layers: Mapping[str, ConfigRecordValues] | None = None
) -> RecordDict:
    """What a client answers; `layers` if it was asked for them. Raises UserError if nothing of its model is trained."""
    if not trainable:
        raise UserError("the model has nothing to train: all its layers are frozen (trainable = False)")
    return RecordDict({"arrays": arrays, "config": ConfigRecord({TRAINABLE: list(trainable), **(layers or {})})})


def initial_weights(grid: Grid, config: Config, clients: Connected) -> InitialWeights:
    """The initial weights from the first client, by cid, that can give them; they depend on the seed alone.

    Raises RunFailed with the first client's reason if none can.
    """
    faults = []
    for cid, node_id in clients.wait().items():
        answer = _ask(Dispatcher(grid, {cid: node_id}, config.round_timeout), node_id)
        if isinstance(answer, InitialWeights):
            return answer
        faults.append(f"client {cid}: {answer}")
        log.info("no initial weights: %s", faults[-1])
    raise RunFailed(f"no client can give the initial weights; {faults[0]}")


def _ask(dispatcher: Dispatcher, node_id: int) -> InitialWeights | str:
    """One client's initial weights, or why there are none."""
    question = Message(RecordDict({"config": ConfigRecord()}), node_id, INITIAL_WEIGHTS)
    for reply in dispatcher.exchange([question]):
        if reply.has_error():
            return one_line(reply.error.reason)
        arrays = next(iter(of_kind(reply.content, ArrayRecord).values()), ArrayRecord())
        if fault := fault_of_arrays(arrays, arrays) if arrays else "sent no arrays":
            return fault
        tables = of_kind(reply.content, ConfigRecord).values()
        claimed = next((table[TRAINABLE] for table in tables if TRAINABLE in table), None)
        fault = _fault_of_names(claimed, arrays)
        return fault or InitialWeights(arrays, None if claimed is None else tuple(claimed))
    return dispatcher.late


def _fault_of_names(claimed: ConfigRecordValues | None, arrays: ArrayRecord) -> str | None:
    """What is wrong with the names of the trainable arrays; a client need not send any."""
    if claimed is None:
        return None
    if not isinstance(claimed, list) or not claimed:
        return "names no trainable arrays"
    odd = next((name for name in claimed if name not in arrays), None)
    return None if odd is None else one_line(f"says that '{odd}' is trained, which is none of its arrays")
