"""What the numbers are that a model gives: probabilities of classes, probabilities each by itself, or any numbers.

The last layer that does something to numbers says it. It is looked for backwards from the model's output, through
layers that only move numbers, through nested models and wrappers, by Keras' nodes (`cutting`). What a function or a
layer without weights does is found by trying it, so that it does not matter how it was given: by name, as a function, a
Lambda or an operation of `keras.ops`. A model that does not say how it is connected is tried as a whole.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import keras
import numpy as np

from fedkeras.models.cutting import Node, node_of

SOFTMAX, SIGMOID, LINEAR, OTHER, UNKNOWN = "softmax", "sigmoid", "linear", "other", "unknown"
"""Numbers that are not below 0 and sum to 1; from 0 to 1; all numbers (logits, or amounts); some but not all numbers;
and what could not be found out."""

SAME, DEPENDS = "same", "depends"
"""Of a layer: what came in; and what is to be found out by what came in."""


@dataclass(frozen=True)
class Output:
    """What comes out: its `kind`, its `shape` without the batch, and in words what makes it so, `maker`."""

    kind: str
    shape: tuple[int | None, ...]
    maker: str

    @property
    def units(self) -> int | None:
        """How many numbers stand beside each other; 1 for a single one."""
        return self.shape[-1] if self.shape else 1


def output_of(model: keras.Model) -> Output:
    """What `model` gives. Its weights and random states are not changed. Unknown, if it has several outputs."""
    if not getattr(model, "inputs", None):
        return _of_a_trial(model, (), f"a {type(model).__name__}, a model of a class of its own")
    if len(model.outputs) != 1:
        return Output(UNKNOWN, (), f"{len(model.outputs)} outputs")
    found = _of_node(node_of(model.outputs[0]))
    return _of_a_trial(model, found.shape, found.maker) if found.kind == UNKNOWN else found


def _of_node(node: Node) -> Output:
    """What a call of a layer gives."""
    layer, shape = node.operation, tuple(node.outputs[0].shape)[1:]
    kind, maker = _of_layer(layer)
    if kind not in (SAME, DEPENDS):
        return Output(kind, shape, maker)
    before = [_of_node(parent) for parent in node.parent_nodes]
    if len({one.kind for one in before}) != 1:
        return Output(UNKNOWN, shape, maker)
    return replace(before[0], shape=shape) if kind == SAME else _behind(node, before[0], shape, maker)


def _of_layer(layer: keras.layers.Layer) -> tuple[str, str]:
    """Kind and maker. Names are those of classes: how Keras counts layers differs from process to process."""
    name = f"a layer {type(layer).__name__}"
    if isinstance(layer, keras.layers.InputLayer):
        return UNKNOWN, "its own input"
    if isinstance(layer, keras.Model):
        if len(getattr(layer, "outputs", None) or ()) != 1:
            return UNKNOWN, f"a {type(layer).__name__}, a model of a class of its own"
        inner = _of_node(node_of(layer.outputs[0]))
        return inner.kind, inner.maker
    if not type(layer).__module__.startswith("keras."):
        return (UNKNOWN if layer.weights else DEPENDS), f"{name} of a class of its own"
    if isinstance(layer, keras.layers.Wrapper):
        return _of_layer(layer.layer)
    if isinstance(layer, keras.layers.Bidirectional):
        return _of_layer(layer.forward_layer)
    function = getattr(layer, "activation", None)
    if callable(function) and not isinstance(layer, keras.layers.Activation):
        kind = _of_function(function)
        if kind == SAME:
            return LINEAR, f"{name} without an activation"
        return kind, f"{name} with {getattr(function, '__name__', type(function).__name__)}"
    if isinstance(layer, keras.layers.PReLU):
        return OTHER, name
    if type(layer).__name__.startswith(("MaxPool", "GlobalMaxPool")):
        return SAME, name
    if getattr(layer, "weights", None):
        return LINEAR, name  # normalisations, embeddings, attention
    # Dropout and noise have a random state and no weights; in prediction they do nothing.
    return (SAME if getattr(layer, "variables", None) else DEPENDS), name


def _of_function(function: Callable) -> str:
    """What an activation makes of any numbers."""
    x = 4 * np.random.default_rng(0).normal(size=(6, 5)).astype("float32")
    try:
        y = keras.ops.convert_to_numpy(function(keras.ops.convert_to_tensor(x))).astype("float64")
    except Exception:  # noqa: BLE001 - it is anybody's
        return UNKNOWN
    return _kind_of(x, y) if y.shape == x.shape else UNKNOWN


def _kind_of(x: np.ndarray | None, y: np.ndarray) -> str:
    """The kind of numbers `y`, (..., units), made of numbers of both signs; of `x`, if they are to be compared."""
    if not np.isfinite(y).all():
        return UNKNOWN
    if x is not None and np.allclose(x, y, atol=1e-5):
        return SAME
    if y.min() >= 0 and y.max() <= 1 + 1e-6:
        return SOFTMAX if np.allclose(y.sum(axis=-1), 1, atol=1e-3) else SIGMOID
    if y.max() <= 1e-6 and np.allclose(np.exp(y).sum(axis=-1), 1, atol=1e-3):
        return LINEAR  # logarithms of probabilities, of which a softmax makes the probabilities again
    return OTHER


def _behind(node: Node, before: Output, shape: tuple[int | None, ...], maker: str) -> Output:
    """A layer without weights, or an operation, behind layers of one kind: tried on numbers of that kind."""
    layer, kind = node.operation, type(node.operation).__name__
    sizes = [[4, *(size or 3 for size in parent.outputs[0].shape[1:])] for parent in node.parent_nodes]
    if len(sizes) != 1:  # a merge of what is alike
        keeps = before.kind == LINEAR or kind == "Average" or (kind == "Concatenate" and before.kind == SIGMOID)
        return replace(before, shape=shape) if keeps else Output(UNKNOWN, shape, maker)
    rng = np.random.default_rng(0)
    x, other = (_numbers(before.kind, 4 * rng.normal(size=sizes[0])) for _ in range(2))
    try:
        y, of_other, of_sum, of_none = (_called(layer, some) for some in (x, other, x + other, np.zeros_like(x)))
    except Exception:  # noqa: BLE001 - an operation that has other arguments, a layer that is anybody's
        return Output(UNKNOWN, shape, maker)
    if before.kind == LINEAR and np.allclose(of_sum - of_none, y - of_none + of_other - of_none, atol=1e-3):
        return replace(before, shape=shape)  # moved, scaled, averaged: all numbers are all numbers
    found = _kind_of(x if x.shape == y.shape else None, y)
    if found == SAME or (found in (SOFTMAX, SIGMOID) and before.kind in (SOFTMAX, SIGMOID)):
        return Output(before.kind if found == SAME else found, shape, before.maker)
    if isinstance(layer, keras.layers.Activation):
        maker += f" with {getattr(layer.activation, '__name__', type(layer.activation).__name__)}"
    return Output(found, shape, maker)


def _numbers(kind: str, normal: np.ndarray) -> np.ndarray:
    if kind == SIGMOID:
        normal = 1 / (1 + np.exp(-normal))
    elif kind == SOFTMAX:
        normal = np.exp(normal - normal.max(axis=-1, keepdims=True))
        normal /= normal.sum(axis=-1, keepdims=True)
    return normal.astype("float32")


def _called(layer: Callable, x: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(layer(keras.ops.convert_to_tensor(x))).astype("float64")


def _of_a_trial(model: keras.Model, shape: tuple[int | None, ...], maker: str) -> Output:
    """What the whole model gives for examples of random numbers, small and large."""
    if (takes := _example(model)) is None:
        return Output(UNKNOWN, shape, maker)
    integral, rng, values = "float" not in takes[1], np.random.default_rng(0), []
    for scale in (1.0, 1.0) if integral else (1.0, 30.0):
        size = [16, *(size or 8 for size in takes[0])]
        x = rng.integers(0, 2, size) if integral else scale * rng.normal(size=size)
        try:
            y = model(keras.ops.convert_to_tensor(x.astype(takes[1])), training=False)
            values.append(keras.ops.convert_to_numpy(y).astype("float64"))
        except Exception:  # noqa: BLE001 - it is anybody's
            return Output(UNKNOWN, shape, maker)
    shape = shape or values[0].shape[1:]
    kinds = {_kind_of(None, value) for value in values}
    kind = kinds.pop() if len(kinds) == 1 else UNKNOWN
    if kind == OTHER and min(map(np.min, values)) < -1 and max(map(np.max, values)) > 1:
        kind = LINEAR
    elif kind == OTHER or (kind == SIGMOID and not (values[-1].min() < 0.1 and values[-1].max() > 0.9)):
        kind = UNKNOWN  # numbers may lie between 0 and 1 by chance, but large examples then take them out of it
    return Output(kind, shape, maker if kind == UNKNOWN else f"{maker}, tried on random numbers")


def _example(model: keras.Model) -> tuple[tuple[int | None, ...], str] | None:
    """Shape and dtype of what the model takes, as far as it says."""
    if getattr(model, "inputs", None):
        if len(model.inputs) != 1:
            return None
        return tuple(model.inputs[0].shape)[1:], model.inputs[0].dtype
    shapes = getattr(model, "_build_shapes_dict", None) or {}  # what a subclassed model was first called with
    found = next(iter(shapes.values()), None) if len(shapes) == 1 else None
    if not isinstance(found, tuple | list) or not found or not all(isinstance(s, int | None) for s in found):
        return None
    return tuple(found)[1:], "float32"
