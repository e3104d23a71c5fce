"""Who is who in a run of our own runtimes: Flower's ids for the server, its nodes and the run."""

from fedkeras.flower.internals import SUPERLINK_NODE_ID, act_as

__all__ = ["SERVER_NODE_ID", "act_as", "cid_of", "node_id_of"]

SERVER_NODE_ID = SUPERLINK_NODE_ID
_FIRST_NODE_ID = SERVER_NODE_ID + 1


def node_id_of(cid: int) -> int:
    """The node id under which Flower knows client `cid`; 0 is nobody and 1 the server."""
    return _FIRST_NODE_ID + cid


def cid_of(node_id: int) -> int:
    """The inverse of node_id_of."""
    return node_id - _FIRST_NODE_ID
