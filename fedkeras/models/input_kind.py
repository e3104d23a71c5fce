"""What a model does first with an example: takes whole numbers, scales it by itself, masks some, or computes with it.

It is read off the layers that the input meets before any that computes, of a file without Keras. Layers of a custom
kind say nothing; an input of a whole-number dtype says it for them.
"""

import functools
import io
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import h5py
import numpy as np

from fedkeras.models.file_info import Json, read_config

if TYPE_CHECKING:
    import keras


class InputKind(NamedTuple):
    """`layer` is the one that decides it, such as "Embedding 'tokens'"; "" for numbers."""

    kind: Literal["numbers", "integers", "scaled", "masked"]
    layer: str = ""


NUMBERS = InputKind("numbers")

LOOK_UP = (
    "Embedding", "ReversibleEmbedding", "IntegerLookup", "StringLookup", "Hashing", "HashedCrossing",
    "CategoryEncoding", "TextVectorization",
)  # fmt: skip
"""Layers that look an example's numbers up: half of one is none, however Keras casts it."""

PASSING = (
    "Flatten", "Reshape", "Permute", "RepeatVector", "Identity", "Dropout", "SpatialDropout1D", "SpatialDropout2D",
    "SpatialDropout3D", "GaussianNoise", "GaussianDropout", "Resizing", "CenterCrop", "GetItem", "ExpandDims",
    "Squeeze", "ActivityRegularization", "Add", "Subtract",
)  # fmt: skip
"""Layers and operations behind which the first one may still come; and all Random..., Cropping..., ZeroPadding..."""

LARGEST_FACTOR = 0.1
"""A factor up to this brings raw values down (1/255, 1/16); a larger one is for values that are scaled already."""


def kind_of_file(path: str | Path) -> InputKind:
    """Of a .keras or .h5 file. Raises UserError for one that cannot be read."""
    path = Path(path)
    model = read_config(path).model
    return _walk(model, functools.partial(_file_normalises, path)) or NUMBERS


def kind_of_model(model: "keras.Model") -> InputKind:
    """Of a model that is built; of a subclassed one, by its layers in the order in which it was given them."""
    normalises = functools.partial(_model_normalises, model)
    config = _own_config(model)
    if "layers" in config:
        return _walk({"class_name": type(model).__name__, "config": config}, normalises) or NUMBERS
    layers = [{"class_name": type(layer).__name__, "config": _own_config(layer)} for layer in model.layers]
    return _along(layers, normalises) or NUMBERS


def _own_config(layer: "keras.Layer") -> dict[str, Json]:
    try:
        return layer.get_config()
    except Exception:  # noqa: BLE001 - whatever a class of the user's raises; it is only looked at
        return {"name": layer.name}


Adapted = Callable[[], bool]
"""Whether the model's Normalization layers change anything: one that was never adapted does not."""


def _walk(model: Json, adapted: Adapted) -> InputKind | None:
    """Of a serialised model; None: what goes in comes out, as of layers that only augment."""
    config = model.get("config") if isinstance(model, dict) else None
    if isinstance(config, list):  # Keras 2.0's Sequential
        config = {"layers": config}
    if not isinstance(config, dict) or not isinstance(config.get("layers"), list):
        return NUMBERS
    layers = [layer for layer in config["layers"] if isinstance(layer, dict)]
    if "input_layers" not in config:
        return _along(layers, adapted)
    return _through(layers, adapted)


def _along(layers: Sequence[Mapping[str, Json]], adapted: Adapted) -> InputKind | None:
    """Of layers one after another."""
    for layer in layers:
        if (found := _look(layer, adapted)) is not None:
            return found
    return None


def _through(layers: Sequence[Mapping[str, Json]], adapted: Adapted) -> InputKind | None:
    """Of a graph of layers, in the order of the file, which is that of computation."""
    raw, computed = set(), False
    for layer in layers:
        if layer.get("class_name") != "InputLayer" and not raw & set(_sources(layer.get("inbound_nodes"))):
            continue
        found = _look(layer, adapted)
        if found is None:
            raw.add(_name(layer))
        elif found.kind != "numbers":
            return found
        else:
            computed = True
    return NUMBERS if computed else None


def _sources(nodes: Json) -> Iterator[str]:
    """Names of the layers that a layer is called on, in Keras 3's spelling and in the older one."""
    if isinstance(nodes, dict):
        history = nodes.get("keras_history")
        if isinstance(history, list | tuple) and history:
            yield str(history[0])
        for value in nodes.values():
            yield from _sources(value)
    elif isinstance(nodes, list | tuple):
        if len(nodes) >= 3 and isinstance(nodes[0], str) and isinstance(nodes[1], int):
            yield nodes[0]
        for value in nodes:
            yield from _sources(value)


def _look(layer: Mapping[str, Json], adapted: Adapted) -> InputKind | None:
    """What a layer makes of raw numbers; None: they come out of it as they went in, or as good as."""
    kind, config = str(layer.get("class_name", "")).rpartition(">")[2], layer.get("config")
    config = config if isinstance(config, dict) else {}
    named = f"{kind} '{_name(layer)}'"
    if kind == "InputLayer":
        return None if _is_float(config.get("dtype")) else InputKind("integers", f"input '{_name(layer)}'")
    if kind in LOOK_UP:
        return InputKind("integers", named)
    if kind == "Cast":
        return None if _is_float(_dtype_of_cast(layer)) else InputKind("integers", named)
    if kind == "Rescaling":
        return InputKind("scaled", named) if _is_small(config.get("scale")) else None
    if kind in ("TrueDivide", "Divide", "Multiply"):
        factors = [1 / value if "Divide" in kind else value for value in _constants(layer) if value]
        return InputKind("scaled", named) if any(_is_small(factor) for factor in factors) else None
    if kind == "Normalization":
        return InputKind("scaled", named) if _changes(config) or adapted() else None
    if kind == "Discretization":
        return InputKind("scaled", named)
    if kind == "Masking":
        return InputKind("masked", named)
    if kind == "TimeDistributed" and isinstance(config.get("layer"), dict):
        return _look(config["layer"], adapted)
    if isinstance(config.get("layers"), list):  # a model in a model
        return _walk(layer, adapted)
    if kind in PASSING or kind.startswith(("Random", "Cropping", "ZeroPadding")):
        return None
    return NUMBERS


def _name(layer: Mapping[str, Json]) -> str:
    config = layer.get("config")
    return str(layer.get("name") or (config.get("name") if isinstance(config, dict) else "") or "")


def _is_float(dtype: Json) -> bool:
    """Of an input's dtype; where it is not said, Keras' default is meant."""
    if isinstance(dtype, dict):  # a policy
        inner = dtype.get("config")
        dtype = inner.get("name") if isinstance(inner, dict) else None
    return dtype is None or "float" in str(dtype)


def _is_small(scale: Json) -> bool:
    """Whether this factor, or each of these, brings large values down."""
    try:
        values = np.abs(np.asarray(scale, np.float64))
    except (TypeError, ValueError):
        return False
    return bool(values.size and (values <= LARGEST_FACTOR).all())


def _constants(layer: Mapping[str, Json]) -> list[float]:
    """The numbers that an operation is called with, beside tensors."""
    nodes = layer.get("inbound_nodes")
    first = nodes[0] if isinstance(nodes, list | tuple) and nodes else {}
    args = first.get("args", ()) if isinstance(first, dict) else ()
    return [float(value) for value in args if isinstance(value, int | float) and not isinstance(value, bool)]


def _dtype_of_cast(layer: Mapping[str, Json]) -> str:
    """The dtype that an operation Cast is called with, or made with."""
    config, nodes = layer.get("config"), layer.get("inbound_nodes")
    first = nodes[0] if isinstance(nodes, list | tuple) and nodes else {}
    args, kwargs = (first.get("args", ()), first.get("kwargs", {})) if isinstance(first, dict) else ((), {})
    places = [kwargs.get("dtype"), *args, config.get("dtype") if isinstance(config, dict) else None]
    return next((place for place in places if isinstance(place, str)), "float32")


def _changes(config: Mapping[str, Json]) -> bool:
    """Whether a Normalization was made with a mean and a variance that are not 0 and 1."""
    try:
        mean, variance = (np.asarray(config.get(name), np.float64) for name in ("mean", "variance"))
    except (TypeError, ValueError):
        return False
    return bool(np.isfinite(mean).all() and np.isfinite(variance).all() and not _is_identity(mean, variance))


def _is_identity(mean: np.ndarray, variance: np.ndarray) -> bool:
    return not np.any(mean) and bool(np.all(np.equal(variance, 1)))


def _model_normalises(model: "keras.Model") -> bool:
    own = (layer for layer in model._flatten_layers() if type(layer).__name__ == "Normalization")
    states = ((getattr(layer, "mean", None), getattr(layer, "variance", None)) for layer in own)
    return any(
        mean is not None and variance is not None and not _is_identity(np.asarray(mean), np.asarray(variance))
        for mean, variance in states
    )


_NORMALIZATION = re.compile(r"(^|/)normalization(_\d+)?/", re.IGNORECASE)


def _file_normalises(path: Path) -> bool:
    """Whether the file has the mean and variance of an adapted Normalization; True if it cannot be told."""
    try:
        if path.suffix == ".h5":
            with h5py.File(path) as file:
                return _holds_normalization(file)
        with zipfile.ZipFile(path) as archive:
            weights = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(weights) as file:
            return _holds_normalization(file)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return True


def _holds_normalization(file: h5py.File) -> bool:
    """Of Keras 3: .../normalization/vars/0, mean, and 1, variance; of .h5: .../normalization/mean, or mean:0."""
    found: dict[str, dict[str, np.ndarray]] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        group, _, last = name.rpartition("/")
        kind = {"0": "mean", "1": "variance"}.get(last, last.removesuffix(":0"))
        if kind in ("mean", "variance") and isinstance(item, h5py.Dataset) and _NORMALIZATION.search(f"{group}/"):
            found.setdefault(group, {})[kind] = item[()]

    file.visititems(visit)
    return any(len(each) == 2 and not _is_identity(each["mean"], each["variance"]) for each in found.values())
