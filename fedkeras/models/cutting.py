"""Cutting a Keras model in three for split learning, head, body and tail; and the weights of the three.

For U-shaped split learning: P. Vepakomma, O. Gupta, T. Swedish, R. Raskar, "Split learning for health: Distributed deep
learning without sharing raw patient data", 2018, arXiv:1812.00564. Any functional or Sequential model will do, branches
included, as long as a single tensor passes each cut.

The parts' weights keep the whole model's names, so that together they are the whole model's, and a checkpoint is as any
other. How layers are connected is read from Keras' nodes (a node is one call of one layer), which it records in
`_keras_history` and `_inbound_nodes`, and has no public way to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import keras
import numpy as np

from fedkeras.errors import UserError
from fedkeras.models.compile_config import compiled_with
from fedkeras.models.requirements import require_trainable
from fedkeras.models.weights import names, random_states, set_weights


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


PARTS = ("head", "body", "tail")


@dataclass(frozen=True)
class Parts:
    """A model and its three parts, which are views of it: they share its layers and variables, and none with another.

    So training a part trains that piece of `whole`, in this process; and two cuts of one model are not two models.
    `names` says how the whole model's weights are called that a part has, in the order of the part's own `weights`;
    `seeds` which of the whole model's random states are a part's, in the part's order.
    """

    whole: keras.Model
    models: dict[str, keras.Model]
    names: dict[str, list[str]]
    seeds: dict[str, list[int]]


def cut(model: keras.Model, first: str | int, second: str | int) -> Parts:
    """Cut `model` in three: the head ends with layer `first`, the body with layer `second`, the tail is the rest.

    A layer is named, or numbered as in `model.layers`, where a string of digits is a number too. Each part must have
    weights: without any in the head the server would see the inputs, without any in the tail the gradient sent back
    spells out the labels, and without any in the body there is nothing to train on the server. A nested model is one
    layer here, and is not cut. The tail keeps the loss that the model was compiled with. Raises UserError with the
    reason where a model cannot be cut.
    """
    _check_kind(model)
    end = node_of(model.outputs[0])
    whole = ancestors(end)
    nodes = [_node(model, whole, point) for point in (first, second)]
    before = [_check_crossing(whole, node) for node in nodes]
    if nodes[0] is nodes[1] or id(nodes[0]) not in before[1]:
        raise UserError(f"--split-at: layer '{first}' must come before layer '{second}'; the first ends the head, the "
                        "second the body")  # fmt: skip
    if nodes[1] is end:
        raise UserError(f"--split-at: layer '{second}' is the model's last: nothing is left for the tail")
    members = [
        before[0],
        {key: node for key, node in before[1].items() if key not in before[0]},
        {key: node for key, node in whole.items() if key not in before[1]},
    ]
    _check_sharing(members)
    tensors = [model.inputs[0], nodes[0].outputs[0], nodes[1].outputs[0], model.outputs[0]]
    views = {part: keras.Model(tensors[i], tensors[i + 1], name=part) for i, part in enumerate(PARTS)}
    for part, why in zip(PARTS, _NO_WEIGHTS, strict=True):
        if not views[part].weights:
            raise UserError(f"--split-at {first},{second}: the {part} has no weights, {why}")
    compiled_with(model).onto(views["tail"])
    _check_equal(model, views)
    return Parts(model, views, *_positions(model, views))


def get_part_weights(parts: Parts, which: Sequence[str]) -> dict[str, np.ndarray]:
    """Copies of the weights of some parts, such as ("head", "tail"), under the whole model's names."""
    return {name: variable.numpy() for name, variable in _variables(parts, which).items()}


def set_part_weights(parts: Parts, which: Sequence[str], weights: Mapping[str, np.ndarray]) -> None:
    """Copy `weights` into some parts; those of the other parts may be among them, and are left alone.

    Raises ValueError naming the first weight that is missing, unknown or of another shape; nothing is changed then.
    """
    own = _variables(parts, which)
    for name, variable in own.items():
        if name not in weights:
            raise ValueError(f"weight '{name}' of the {' and the '.join(which)} is missing")
        if np.shape(weights[name]) != tuple(variable.shape):
            raise ValueError(f"weight '{name}' has shape {np.shape(weights[name])}; the model's is {variable.shape}")
    if unknown := set(weights).difference(*parts.names.values()):
        raise ValueError(f"weight '{min(unknown)}' is in no part of the model")
    for name, variable in own.items():
        variable.assign(weights[name])


def split_weights(parts: Parts, weights: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Sort the whole model's weights (as from `get_weights`) by part; they keep the whole model's names."""
    return {part: {name: weights[name] for name in own} for part, own in parts.names.items()}


def join_weights(parts: Parts, *weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The whole model's weights, in its order, from those of its parts. Raises ValueError if one is missing."""
    together = {name: array for some in weights for name, array in some.items()}
    if missing := [name for name in names(parts.whole) if name not in together]:
        raise ValueError(f"weight '{missing[0]}' of the whole model is in none of the parts")
    return {name: together[name] for name in names(parts.whole)}


def join(parts: Parts, *weights: Mapping[str, np.ndarray]) -> keras.Model:
    """The whole model, with the parts' trained weights in it: those in its own variables, or `weights` of the parts.

    Raises ValueError for a weight that is missing, or has another shape.
    """
    if weights:
        set_weights(parts.whole, join_weights(parts, *weights))
    return parts.whole


def split_seeds(parts: Parts, values: np.ndarray) -> dict[str, np.ndarray]:
    """Sort the values (seeds, 2) of the whole model's random states by part, in each part's order."""
    return {part: np.asarray(values, np.uint32).reshape(-1, 2)[own] for part, own in parts.seeds.items()}


_NO_WEIGHTS = (
    "so that the server would see the inputs themselves; cut after a layer that learns",
    "so that the server would have nothing to train; cut so that a layer that learns lies between",
    "so that the gradient the client sends would spell out the labels; cut before the last layer that learns",
)


def _check_kind(model: keras.Model) -> None:
    if not isinstance(model, keras.Model) or not type(model).__module__.startswith("keras."):
        raise UserError(f"a model with a class of its own ({type(model).__name__}) cannot be cut: only Sequential and "
                        "functional models say how their layers are connected")  # fmt: skip
    if not getattr(model, "outputs", None):  # Sequential raises AttributeError
        raise UserError("the model is not built: call it once, or give it a keras.Input")
    require_trainable(model)


def _node(model: keras.Model, whole: dict[int, Node], point: str | int) -> Node:
    """The place of a layer in the model. Raises UserError if there is none or several."""
    layers = model.layers
    if str(point).removeprefix("-").isdigit():
        if not -len(layers) <= int(point) < len(layers):
            raise UserError(f"--split-at: there is no layer {point}; {_listing(model)}")
        layer = layers[int(point)]
    else:
        found = [layer for layer in layers if layer.name == point]
        if not found:
            inside = [outer.name for outer in layers if isinstance(outer, keras.Model) and _has(outer, point)]
            raise UserError(
                f"--split-at: layer '{point}' is inside the nested model '{inside[0]}', which is one layer here"
                if inside
                else f"--split-at: there is no layer '{point}'; {_listing(model)}"
            )
        layer = found[0]
    places = [node for node in whole.values() if node.operation is layer]
    if len(places) != 1:
        raise UserError(f"--split-at: layer '{layer.name}' is used {len(places)} times, so it ends no part")
    if len(places[0].outputs) != 1:
        raise UserError(f"--split-at: layer '{layer.name}' has several outputs; one tensor can pass a cut")
    return places[0]


def _check_crossing(whole: dict[int, Node], node: Node) -> dict[int, Node]:
    """Return what lies before the cut after `node`; raise UserError if more than its output is needed behind it."""
    before = ancestors(node)
    for later in whole.values():
        for needed in later.parent_nodes if id(later) not in before else []:
            if id(needed) in before and needed is not node:
                raise UserError(
                    f"--split-at: a connection from '{needed.operation.name}' to '{later.operation.name}' passes by "
                    f"the cut after '{node.operation.name}'; cut before or after the whole block"
                )
    return before


def _check_sharing(members: list[dict[int, Node]]) -> None:
    owner: dict[int, str] = {}
    for part, nodes in zip(PARTS, members, strict=True):
        for layer in {id(node.operation): node.operation for node in nodes.values()}.values():
            for thing in [layer, *getattr(layer, "variables", [])]:
                if owner.setdefault(id(thing), part) != part:
                    raise UserError(
                        f"--split-at: layer '{layer.name}', or a variable of it, is shared by the {owner[id(thing)]} "
                        f"and the {part}, which are on different machines"
                    )


def _check_equal(model: keras.Model, views: dict[str, keras.Model]) -> None:
    """Compare tail(body(head(x))) with the model on two random examples."""
    tensor, rng = model.inputs[0], np.random.default_rng(0)
    shape = [2, *(size or 32 for size in tensor.shape[1:])]
    x = (rng.normal(size=shape) if "float" in tensor.dtype else rng.integers(0, 2, shape)).astype(tensor.dtype)
    whole, parts = model(x, training=False), x
    for part in PARTS:
        parts = views[part](parts, training=False)
    whole, parts = (keras.ops.convert_to_numpy(y).astype("float64") for y in (whole, parts))
    if not np.max(np.abs(whole - parts), initial=0) <= 1e-6 * max(1.0, np.max(np.abs(whole), initial=0)):
        raise UserError(
            "the three parts together do not compute what the model does: has it layers that draw at random?"
        )


def _positions(model: keras.Model, views: dict[str, keras.Model]) -> tuple[dict[str, list[str]], dict[str, list[int]]]:
    name = {id(variable): name for variable, name in zip(model.weights, names(model), strict=True)}
    seed = {id(variable): i for i, variable in enumerate(random_states(model))}
    return (
        {part: [name[id(variable)] for variable in view.weights] for part, view in views.items()},
        {part: [seed[id(variable)] for variable in random_states(view)] for part, view in views.items()},
    )


def _has(model: keras.Model, name: str) -> bool:
    return any(layer.name == name or (isinstance(layer, keras.Model) and _has(layer, name)) for layer in model.layers)


def _listing(model: keras.Model) -> str:
    return "there are: " + ", ".join(f"{i} {layer.name}" for i, layer in enumerate(model.layers))


def _variables(parts: Parts, which: Sequence[str]) -> dict[str, keras.Variable]:
    pairs = [zip(parts.names[part], parts.models[part].weights, strict=True) for part in which]
    return {name: variable for pair in pairs for name, variable in pair}
