"""Whether two models are of one architecture, and if not, where they differ first: built ones, or as JSON.

The configuration of a file that somebody else has made is compared as JSON, so that no such model is ever built.
"""

import json

import keras

from fedkeras.models.file_info import Json
from fedkeras.models.weights import names

IGNORED = frozenset({
    "name", "dtype", "trainable", "seed", "registered_name", "module", "build_config", "build_input_shape",
    "compile_config",
    "rate", "noise_shape", "momentum", "ragged", "sparse", "optional", "autocast", "shared_object_id", "data_format",
    "batch_shape", "batch_input_shape", "batch_size",
})  # fmt: skip
"""What changes neither a weight's shape nor what a trained model computes from an input, or shows in shapes."""


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


MODELS = ("Sequential", "Functional", "Model")
NOT_COMPARED = IGNORED | {"function", "layers", "input_layers", "output_layers"}
"""As JSON. Code is none of it: what is built is one's own model, with one's own code."""


def config_of(model: keras.Model) -> dict[str, Json]:
    """The model's configuration as a .keras file has it."""
    return json.loads(json.dumps(keras.saving.serialize_keras_object(model)))


def config_difference(own: dict[str, Json], its: Json) -> str | None:
    """What `difference` says, of two configurations of Keras 3; `its` may be any JSON.

    The shapes of weights follow from the layers' settings and the input's shape.
    """
    layers, others = _layers(own), _layers(its)
    for number, (left, right) in enumerate(zip(layers, others, strict=False), start=1):
        if not isinstance(right, dict) or not isinstance(right.get("config"), dict):
            return f"layer {number} is none"
        title = f"layer {number} ('{str(right['config'].get('name', ''))[:60]}')"
        kind, its_kind = left.get("class_name"), right.get("class_name")
        if kind != its_kind and not (kind in MODELS and its_kind in MODELS):
            return f"{title} is a {str(its_kind)[:60]}, not a {kind}"
        if kind in MODELS:
            if (inner := config_difference(left, right)) is not None:
                return f"{title}: {inner}"
            continue
        if (setting := _first(_plain_json(left["config"]), _plain_json(right["config"]))) is not None:
            return f"{title}: {setting[:200]}"
    if len(layers) != len(others):
        return f"it has {len(others)} layers, not {len(layers)}"
    if _takes(own) != _takes(its):
        return f"it takes {str(_takes(its))[:60]}, not {_takes(own)}"
    if _wires(own) != _wires(its):
        return "its layers are connected in another way"
    return None


def _layers(model: Json) -> list[Json]:
    """As `model.layers` counts them: a Sequential's input is none."""
    config = model.get("config") if isinstance(model, dict) else None
    layers = config.get("layers") if isinstance(config, dict) else None
    layers = layers if isinstance(layers, list) else []
    if isinstance(model, dict) and model.get("class_name") == "Sequential":
        return [layer for layer in layers if not (isinstance(layer, dict) and layer.get("class_name") == "InputLayer")]
    return layers


def _takes(model: Json) -> list[Json]:
    """The shapes of its inputs, without the batch; none where the file does not say it."""
    config = model.get("config") if isinstance(model, dict) else None
    layers = config.get("layers") if isinstance(config, dict) else None
    layers = [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []
    inputs = [layer.get("config") for layer in layers if layer.get("class_name") == "InputLayer"]
    shapes = [config.get("batch_shape") for config in inputs if isinstance(config, dict)]
    return [shape[1:] for shape in shapes if isinstance(shape, list)]


def _plain_json(config: dict[str, Json]) -> dict[str, Json]:
    """The settings that matter; a layer within a layer (TimeDistributed's, Bidirectional's) by its own."""
    plain = {key: value for key, value in _plain(config).items() if key not in NOT_COMPARED}
    return {key: _plain_json(value) if isinstance(value, dict) else value for key, value in plain.items()}


def _wires(model: Json) -> list[Json]:
    """Of each layer the (layer, output) pairs that it takes, and those that the model gives; layers by position."""
    places = {
        str(layer["config"].get("name")): number
        for number, layer in enumerate(_layers(model))
        if isinstance(layer, dict) and isinstance(layer.get("config"), dict)
    }

    def taken(part: Json) -> list[Json]:
        found, todo = [], [part]
        while todo:  # not by recursion: whoever made the file decides how deep it is
            part = todo.pop()
            if isinstance(part, list) and len(part) == 3 and isinstance(part[0], str) and type(part[2]) is int:
                found.append([places.get(part[0]), part[2]])
            elif isinstance(part, list | dict):
                todo += part.values() if isinstance(part, dict) else part
        return found

    ends = model.get("config") if isinstance(model, dict) else None
    ends = ends if isinstance(ends, dict) else {}
    inner = [taken(layer.get("inbound_nodes")) for layer in _layers(model) if isinstance(layer, dict)]
    return [*inner, taken(ends.get("input_layers")), taken(ends.get("output_layers"))]
