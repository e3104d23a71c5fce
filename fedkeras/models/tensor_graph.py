"""How the layers of a functional or Sequential model are connected: which calls a tensor comes from.

A node is one call of one layer; Keras records them in `_keras_history` and `_inbound_nodes`, and has no public way.
"""

from typing import Protocol

import keras


class Node(Protocol):
    """What is used of Keras' Node: a layer, its outputs in this call, and the calls that made its inputs."""

    operation: keras.Operation
    outputs: list[keras.KerasTensor]
    parent_nodes: list["Node"]


def node_of(tensor: keras.KerasTensor) -> Node:
    """The call that made `tensor`."""
    made = tensor._keras_history
    return made.operation._inbound_nodes[made.node_index]


def ancestors(node: Node) -> dict[int, Node]:
    """`node` and every call its output depends on, by id."""
    found: dict[int, Node] = {}
    todo = [node]
    while todo:  # not by recursion: a deep network has more layers than Python has stack
        if id(current := todo.pop()) not in found:
            found[id(current)] = current
            todo += current.parent_nodes
    return found
