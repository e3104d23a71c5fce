"""The first global weights: the server asks a client for the untrained model's, so it needs no TensorFlow to begin."""

import logging
from typing import Protocol

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from fedkeras.config import Config
from fedkeras.errors import RunFailed
from fedkeras.federation.dispatcher import Dispatcher
from fedkeras.federation.records import of_kind
from fedkeras.federation.validation import fault_of_arrays, one_line

log = logging.getLogger("fedkeras")

INITIAL_WEIGHTS = f"{MessageType.QUERY}.initial_weights"


class Connected(Protocol):
    """Who can be asked."""

    def wait(self) -> dict[int, int]:
        """{cid: node id}, ascending in cid."""


def initial_arrays(grid: Grid, config: Config, clients: Connected) -> ArrayRecord:
    """The initial weights from the first client, by cid, that can give them; they depend on the seed alone.

    Raises RunFailed with the first client's reason if none can.
    """
    faults = []
    for cid, node_id in clients.wait().items():
        answer = _ask(Dispatcher(grid, {cid: node_id}, config.round_timeout), node_id)
        if isinstance(answer, ArrayRecord):
            return answer
        faults.append(f"client {cid}: {answer}")
        log.info("no initial weights: %s", faults[-1])
    raise RunFailed(f"no client can give the initial weights; {faults[0]}")


def _ask(dispatcher: Dispatcher, node_id: int) -> ArrayRecord | str:
    """One client's initial weights, or why there are none."""
    question = Message(RecordDict({"config": ConfigRecord()}), node_id, INITIAL_WEIGHTS)
    for reply in dispatcher.exchange([question]):
        if reply.has_error():
            return one_line(reply.error.reason)
        arrays = next(iter(of_kind(reply.content, ArrayRecord).values()), ArrayRecord())
        return (fault_of_arrays(arrays, arrays) if arrays else "sent no arrays") or arrays
    return dispatcher.late
