"""The first global weights: the server asks a client for the untrained model's, so it needs no TensorFlow to begin."""

import logging

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from fedkeras.config import Config
from fedkeras.errors import RunFailed
from strategies.arrays import of_kind
from strategies.checks import fault_of_arrays
from strategies.exchange import exchange
from strategies.nodes import Nodes

log = logging.getLogger("fedkeras")

INITIAL_WEIGHTS = f"{MessageType.QUERY}.initial_weights"


def initial_arrays(grid: Grid, config: Config, nodes: Nodes, tell: dict | None = None) -> ArrayRecord:
    """The initial weights from the first client, by cid, that can give them; they depend on the seed alone.

    Raises RunFailed with the last client's reason if none can.
    """
    fault = ""
    for cid, node_id in nodes.wait().items():
        question = Message(RecordDict({"config": ConfigRecord(tell or {})}), node_id, INITIAL_WEIGHTS)
        fault = f"client {cid}: no answer within {config.round_timeout:g} s"
        for reply in exchange(grid, [question], config.round_timeout):
            fault = f"client {cid}: {reply.error.reason}" if reply.has_error() else ""
            if not fault:
                arrays = next(iter(of_kind(reply.content, ArrayRecord).values()), ArrayRecord())
                fault = fault_of_arrays(arrays, arrays) if arrays else "sent no arrays"
                if not fault:
                    return arrays
                fault = f"client {cid}: {fault}"
        log.warning("no initial weights: %s", fault)
    raise RunFailed(f"no client can give the initial weights; {fault}")
