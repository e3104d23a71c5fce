"""Whether two models are of one architecture, and if not, where they differ first."""

import keras

from fedkeras.models.file_info import Json
from fedkeras.models.weights import names

IGNORED = frozenset({
    "name", "dtype", "trainable", "seed", "registered_name", "module", "build_config", "build_input_shape",
    "compile_config",
    "rate", "noise_shape", "momentum", "ragged", "sparse", "optional", "autocast", "shared_object_id", "data_format",
    "batch_shape", "batch_input_shape", "batch_size",
})  # fmt: skip
"""What changes neither a weight's shape nor what a trained model computes from an input, or is told by shapes."""


def difference(model: keras.Model, other: keras.Model) -> str | None:
    """The first thing in which `other` differs from `model`, in a few words; None if the architectures are the same.

    Compared are layers in order (kind and settings, not names, initialisers or penalties), the shapes of weights, how
    layers are connected, and the input's shape.
    """
    for number, (own, its) in enumerate(zip(model.layers, other.layers, strict=False), start=1):
        title = f"layer {number} ('{its.name}')"
        if type(own).__name__ != type(its).__name__:
            return f"{title} is a {type(its).__name__}, not a {type(own).__name__}"
        if isinstance(own, keras.Model):
            if (inner := difference(own, its)) is not None:
                return f"{title}: {inner}"
            continue
        if (setting := _first(_plain(own.get_config()), _plain(its.get_config()))) is not None:
            return f"{title}: {setting}"
        for name, weight, its_weight in zip(names(own), own.weights, its.weights, strict=False):
            if tuple(weight.shape) != tuple(its_weight.shape):
                return f"{title}: its {name.partition('.')[2]} is {tuple(its_weight.shape)}, not {tuple(weight.shape)}"
        if len(own.weights) != len(its.weights):
            return f"{title}: it has {len(its.weights)} weights, not {len(own.weights)}"
    if len(model.layers) != len(other.layers):
        return f"it has {len(other.layers)} layers, not {len(model.layers)}"
    if _shapes(model) != _shapes(other):
        return f"it takes and gives {_shapes(other)}, not {_shapes(model)}"
    if _connections(model) != _connections(other):
        return "its layers are connected in another way"
    return None


def _plain(config: dict[str, Json]) -> dict[str, Json]:
    """Settings that matter, without names that Keras counts up in a process."""
    return {
        key: value.get("config", value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key not in IGNORED and not key.endswith(("_initializer", "_regularizer", "_constraint", "_quantizer"))
    }


def _first(own: dict[str, Json], its: dict[str, Json]) -> str | None:
    for key in own.keys() & its.keys():
        left, right = (list(value) if isinstance(value, tuple) else value for value in (own[key], its[key]))
        if left != right:
            return f"{key} is {right}, not {left}"
    return None


def _shapes(model: keras.Model) -> str:
    if not getattr(model, "inputs", None):
        return "any shape"
    return f"{[tuple(t.shape[1:]) for t in model.inputs]} to {[tuple(t.shape[1:]) for t in model.outputs]}"


def _connections(model: keras.Model) -> list[list[list[int | None]]]:
    """For each layer, the positions of those it takes its inputs from; empty for a model that does not say."""
    if not getattr(model, "inputs", None):
        return []
    places = {id(layer): position for position, layer in enumerate(model.layers)}
    own = {id(node) for nodes in getattr(model, "_nodes_by_depth", {}).values() for node in nodes}
    calls = [[node for node in layer._inbound_nodes if id(node) in own] for layer in model.layers]
    return [[[places.get(id(p.operation)) for p in node.parent_nodes] for node in nodes] for nodes in calls]
