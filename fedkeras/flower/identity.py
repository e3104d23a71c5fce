"""The ids under which Flower knows the server and the clients in a run of our own runtimes."""

from fedkeras.flower.internals import SUPERLINK_NODE_ID, act_as

__all__ = ["SERVER_NODE_ID", "act_as", "cid_of", "node_id_of"]

SERVER_NODE_ID = SUPERLINK_NODE_ID
_FIRST_NODE_ID = SERVER_NODE_ID + 1


def node_id_of(cid: int) -> int:
    """The node id of client `cid`; 0 stands for no node and 1 for the server."""
    return _FIRST_NODE_ID + cid


def cid_of(node_id: int) -> int:
    """The inverse of node_id_of."""
    return node_id - _FIRST_NODE_ID
