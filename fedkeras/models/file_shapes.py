"""The shapes of a model file's input and output, as far as its configuration says them: nothing is built."""

from pathlib import Path
from typing import NamedTuple

from fedkeras.models.file_config import read_config

PASSING = ("Dropout", "Activation", "Softmax", "ReLU", "LeakyReLU", "BatchNormalization", "LayerNormalization")
"""Layers whose output has the shape of their input."""

Shape = tuple[int | None, ...]


class Shapes(NamedTuple):
    """Without the batch; None: the file does not say it in a form that is understood here."""

    takes: Shape | None
    gives: Shape | None


def file_shapes(path: str | Path) -> Shapes:
    """Of a model with one input and one output. Raises UserError for a file that cannot be read."""
    model = read_config(path).model
    config = model.get("config")
    if isinstance(config, list):  # Keras 2.0's Sequential
        config = {"layers": config}
    layers = [layer for layer in (config or {}).get("layers", []) if isinstance(layer, dict)]
    return Shapes(_takes(config or {}, layers), _gives(config or {}, layers))


def _takes(config: dict, layers: list[dict]) -> Shape | None:
    inputs = [layer for layer in layers if layer.get("class_name") == "InputLayer"]
    if len(inputs) > 1:
        return None
    for layer in [*inputs, *layers[:1]]:
        own = layer.get("config") or {}
        for shape in (own.get("batch_shape"), own.get("batch_input_shape")):
            if shape:
                return _shape(shape)
        if layer.get("class_name") in ("Sequential", "Functional", "Model"):  # a model in a model
            return _takes(own, [inner for inner in own.get("layers", []) if isinstance(inner, dict)])
    return _shape(config["build_input_shape"]) if config.get("build_input_shape") else None


def _gives(config: dict, layers: list[dict]) -> Shape | None:
    named = config.get("output_layers")
    if named:
        while isinstance(named, list) and named and isinstance(named[0], list):
            if len(named) > 1:
                return None
            named = named[0]
        last = [layer for layer in layers if named and layer.get("name") == named[0]]
    else:
        last = list(reversed(layers))
    for layer in last:
        kind, own = layer.get("class_name"), layer.get("config") or {}
        if kind == "Dense" and len(_takes(config, layers) or (0, 0)) == 1:
            return (own.get("units"),)
        if kind == "Dense" and not named and any(below.get("class_name") == "Flatten" for below in layers):
            return (own.get("units"),)
        if kind == "Reshape" and own.get("target_shape"):
            shape = tuple(own["target_shape"])
            return None if -1 in shape else shape
        if named or kind not in PASSING:
            return None
    return None


def _shape(batch_shape: list) -> Shape:
    return tuple(None if size is None else int(size) for size in batch_shape[1:])
