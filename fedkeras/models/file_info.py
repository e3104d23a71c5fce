"""What a model file says of itself: its configuration, and the shapes it takes and gives; and whether rows of data fit.

All of it is read as JSON: nothing is built, imported or run to find out, and Keras is not needed.
"""

import functools
import json
import math
import zipfile
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from fedkeras.errors import UserError, sentences_of
from fedkeras.models.file_check import CONFIG, LARGEST_JSON, Holds, check_file
from fedkeras.shapes import same_order

SUFFIXES = (".keras", ".h5")

MOST_LAYERS = 5000
"""Layers within layers included; a model of some thousand takes Keras half a minute to make."""

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
"""What a configuration is made of."""


class FileConfig(NamedTuple):
    """`model` is Keras' serialised model; `training` what it was compiled with, as Keras wrote it, None if it was not.

    A legacy file's `training` has `optimizer_config` where a .keras file's has `optimizer`.
    """

    model: dict[str, Json]
    training: dict[str, Json] | None


def read_config(path: str | Path) -> FileConfig:
    """Read both from a .keras or .h5 file. Raises UserError in one line."""
    path = Path(path)
    check_suffix(path)
    contents(path)
    try:
        model, training = (_of_keras if path.suffix == ".keras" else _of_h5)(path)
    except (zipfile.BadZipFile, KeyError, OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read the model file {path}: {first_line(error)}") from None
    if (layers := _count_layers(model)) > MOST_LAYERS:
        raise UserError(f"cannot read the model file {path}: it has {layers} layers, and no model has so many")
    if model is None:
        raise UserError(f"{path} holds weights and no model; save it with model.save")
    if not isinstance(model, dict) or not isinstance(training, dict | None):
        raise UserError(f"cannot read the model file {path}: its configuration is no model's")
    return FileConfig(model, training)


def contents(path: Path) -> Holds:
    """What the file holds, when it has been found to be one that may be read. Raises UserError."""
    if not path.is_file():
        raise UserError(f"there is no model file {path}")
    found = path.stat()
    return _checked(path.absolute(), found.st_mtime_ns, found.st_size, found.st_ino)


@functools.lru_cache(maxsize=64)
def _checked(path: Path, *_: int) -> Holds:
    """Once for each state of a file: it is asked for many things one after the other."""
    return check_file(path)


def _count_layers(model: Json) -> int:
    count, todo = 0, [model]
    while todo and count <= MOST_LAYERS:
        part = todo.pop()
        if isinstance(part, dict):
            layers = part.get("layers")
            count += len(layers) if isinstance(layers, list) else 0
            todo += part.values()
        elif isinstance(part, list):
            todo += part
    return count


def check_suffix(path: Path) -> None:
    """Raise UserError unless the name ends as a model file's."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path} is not a model file: its name must end in {' or '.join(SUFFIXES)}")


def first_line(error: Exception) -> str:
    """An exception's first line that says something."""
    return sentences_of(error)[0]


def _of_keras(path: Path) -> tuple[Json, Json]:
    with zipfile.ZipFile(path) as archive, archive.open(CONFIG) as member:
        model = json.loads(_bounded(member.read(LARGEST_JSON + 1)))
    return model, model.get("compile_config") if isinstance(model, dict) else None


def _of_h5(path: Path) -> tuple[Json, Json]:
    with h5py.File(path) as file:
        texts = [file.attrs.get(name, "null") for name in ("model_config", "training_config")]
        if not all(isinstance(text, str | bytes) for text in texts):
            raise ValueError("its configuration is no text")
        return tuple(json.loads(_bounded(text)) for text in texts)


def _bounded(text: str | bytes) -> str | bytes:
    if len(text) > LARGEST_JSON:
        raise ValueError(f"its configuration has more than {LARGEST_JSON} bytes")
    return text


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


def last_activation(path: str | Path) -> str:
    """The function at the model's end, such as "softmax"; "" where the file does not say it in an understood form."""
    model = read_config(path).model
    for _ in range(20):  # a model in a model in ...
        config = model.get("config")
        layers = config if isinstance(config, list) else (config or {}).get("layers", [])
        layers = [layer for layer in layers if isinstance(layer, dict)]
        ends = [] if isinstance(config, list) else names_of_ends((config or {}).get("output_layers"))
        if ends:
            last = [layer for layer in layers if layer.get("name") in ends]
        else:
            last = [layer for layer in layers if "Dropout" not in str(layer.get("class_name"))][-1:]
        if len(last) != 1:
            return ""
        (model,) = last
        if model.get("class_name") not in ("Sequential", "Functional", "Model"):
            break
    if model.get("class_name") == "Softmax":
        return "softmax"
    function = (model.get("config") or {}).get("activation")
    while isinstance(function, dict):
        function = function.get("config") or function.get("class_name")
    return str(function or "").lower()


def names_of_ends(part: Json) -> list[str]:
    """Of layers, from [name, call, output], or any lists or tables of such."""
    if isinstance(part, dict):
        part = list(part.values())
    if not isinstance(part, list):
        return []
    if len(part) >= 3 and isinstance(part[0], str) and type(part[1]) is int:
        return [part[0]]
    return [name for inner in part for name in names_of_ends(inner)]


def _takes(config: dict[str, Json], layers: list[dict[str, Json]]) -> Shape | None:
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


def _gives(config: dict[str, Json], layers: list[dict[str, Json]]) -> Shape | None:
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


def _shape(batch_shape: list[int | None]) -> Shape:
    return tuple(None if size is None else int(size) for size in batch_shape[1:])


def fits(takes: Shape, row: tuple[int, ...]) -> bool:
    """Whether an example of shape `row` goes into a model that takes `takes`, as it is; None is any size."""
    return len(takes) == len(row) and all(own in (None, size) for own, size in zip(takes, row, strict=True))


def input_shape(takes: Shape | None, row: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which rows go into a model that takes `takes`: 784 columns may be an image, and an image a row.

    Raises UserError where they cannot. None: the model file does not say what it takes, and rows stay as they are.
    """
    if takes is None or fits(takes, row):
        return row
    if None not in takes and same_order(takes, row):
        return tuple(takes)
    known = " x ".join("any" if size is None else str(size) for size in takes)
    held = " x ".join(map(str, row)) or "1"
    as_many = None not in takes and math.prod(takes) == math.prod(row)
    hint = "; as many, but in another order: transpose the data" if as_many else ""
    raise UserError(f"the model takes {known} numbers an example, and the data have {held}; they do not fit{hint}")


def as_input(takes: Shape | None, x: np.ndarray) -> np.ndarray:
    """Rows x (examples, ...) in the shape that `input_shape` gives; where they do not fit, as they are.

    What does not fit is refused later, by whoever checks the examples against the model.
    """
    try:
        return x.reshape(len(x), *input_shape(takes, x.shape[1:]))
    except UserError:
        return x
