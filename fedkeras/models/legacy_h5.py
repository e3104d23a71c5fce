"""`.h5` files of TensorFlow 2's own Keras, in words that Keras 3 takes.

Keras 2 wrote settings into its layers that Keras 3 has no more. Most say what Keras 3 does anyway (`time_major=False`,
`groups=1` of a depthwise convolution), and are left out here. One that says something else would make another model,
as would a function that has changed its meaning: it is refused by name. Nothing is imported or run by what a file says.
"""

import contextlib
import inspect
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import keras

from fedkeras.errors import UserError
from fedkeras.models.file_info import Json

ANY = "*"
"""A value that stands for all: what a setting says makes no difference."""

LEFT_OUT: dict[str, tuple[Json, ...]] = {
    "time_major": (False, None),
    "groups": (1, None),  # of convolutions that have one group only
    "implementation": (ANY,),  # three ways to compute the same
    "rng_type": (ANY,),
    "noise_shape": (None,),
    "dynamic": (False, None),
    "causal": (False, None),
    "renorm": (False, None),
    "virtual_batch_size": (None,),
    "fused": (ANY,),
    "kernel_initializer": (ANY,),  # of convolutions whose kernels have initializers of other names
    "kernel_regularizer": (None,),
    "kernel_constraint": (None,),
    "query_shape": (ANY,),  # which the weights' shapes say
    "key_shape": (ANY,),
    "value_shape": (ANY,),
    "softmax_robust_masking": (False,),
    "trainable": (True,),
    "dtype": (None, "float32"),  # of initializers
}
"""Setting -> the values with which it may be left out, where a class does not take it any more."""

SPACES = (keras.layers, keras.initializers, keras.regularizers, keras.constraints)
MODELS = ("Sequential", "Functional", "Model")


def translate(model: dict[str, Json]) -> dict[str, Json]:
    """A copy of a legacy file's model configuration as Keras 3 takes it. Raises UserError for what it cannot say."""
    try:
        return _translated(model)
    except RecursionError:  # whoever made the file decides how deep it is
        raise UserError("its configuration is too deep to be a model's") from None
    except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        raise UserError(f"its configuration is no model's: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def translated(path: Path) -> Iterator[Path]:
    """The file itself, or for as long as the context lasts a copy with its configuration translated.

    Raises UserError, also where there is no room for a copy.
    """
    if path.suffix != ".h5":
        yield path
        return
    with h5py.File(path) as file:
        before, version = json.loads(file.attrs["model_config"]), str(file.attrs.get("keras_version", ""))
    after = before if version.startswith("3") else translate(before)
    if after == before:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="fedkeras-") as folder:
        copy = Path(folder) / path.name
        try:
            shutil.copyfile(path, copy)
            with h5py.File(copy, "r+") as file:
                file.attrs["model_config"] = json.dumps(after)
        except OSError as error:
            raise UserError(f"cannot make a copy of {path} to read it from: {error.strerror or error}") from error
        yield copy


def _translated(part: Json) -> Json:
    if isinstance(part, list):
        return [_translated(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    name, config = part.get("class_name"), part.get("config")
    if name == "Policy" and isinstance(config, dict):
        return config.get("name")
    result = {key: _translated(value) for key, value in part.items()}
    if isinstance(name, str) and isinstance(config, dict):
        result["config"] = _known(name, result["config"])
        if name in MODELS:
            _drop_own_inputs(result["config"])
            _mend_names(result["config"])
            _mend_nodes(result["config"])
            _mend_arguments(result["config"])
    return result


def _known(name: str, config: dict[str, Json]) -> dict[str, Json]:
    """The configuration without what the class does not take, if that changes nothing."""
    kind = next((found for space in SPACES if inspect.isclass(found := getattr(space, name, None))), None)
    if kind is None:
        return config
    takes = _parameters(kind)
    known = {}
    for key, value in config.items():
        if key in takes or key not in LEFT_OUT:
            known[key] = value
        elif ANY not in LEFT_OUT[key] and value not in LEFT_OUT[key]:
            raise UserError(f"its {name} '{config.get('name', '')}' has {key}={value}, which Keras 3 cannot do")
    for key in ("activation", "recurrent_activation"):
        if known.get(key) == "hard_sigmoid":  # 0.2 x + 0.5 then, x / 6 + 0.5 now
            raise UserError(
                f"its {name} '{config.get('name', '')}' has {key}=hard_sigmoid, another function in Keras 3"
            )
    if name == "Discretization":
        known.pop("dtype", None)  # int64: of what it gives then, of what it takes now, and would cut fractions off
    if name == "Attention" and known.get("score_mode") == "dot":
        del known["score_mode"]  # the default, which Keras 3 would look up as a function
    return known


def _parameters(kind: type) -> set[str]:
    """What can be given to a class: its own parameters, and those of the classes that it passes others on to."""
    known: set[str] = set()
    for base in kind.__mro__[:-1]:
        if "__init__" not in vars(base):
            continue
        own = inspect.signature(base.__init__).parameters
        known |= set(own)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own.values()):
            break
    return known


def _drop_own_inputs(config: dict[str, Json]) -> None:
    """Where a model has its input as a layer, the first layer's own statement of it is only warned about."""
    layers = [layer for layer in config.get("layers") or [] if isinstance(layer, dict)]
    if any(layer.get("class_name") == "InputLayer" for layer in layers):
        for layer in layers:
            if layer.get("class_name") != "InputLayer":
                _settings(layer).pop("batch_input_shape", None)


def _mend_names(config: dict[str, Json]) -> None:
    """Keras 3 takes no slash in a layer's name."""
    layers = [layer for layer in config.get("layers") or [] if isinstance(layer, dict)]
    names = {own for layer in layers if "/" in (own := str(_settings(layer).get("name", "")))}
    if not names:
        return
    for layer in layers:
        for place in (layer, _settings(layer)):
            if place.get("name") in names:
                place["name"] = str(place["name"]).replace("/", "_")
        for reference in references(layer.get("inbound_nodes")):
            reference.rename(names)
    for ends in ("input_layers", "output_layers"):
        for reference in references(config.get(ends)):
            reference.rename(names)


def _mend_nodes(config: dict[str, Json]) -> None:
    """Keras 2 counted a nested model's own making as its first call, Keras 3 counts only calls."""
    layers = [layer for layer in config.get("layers") or [] if isinstance(layer, dict)]
    found = [one for layer in layers for one in references(layer.get("inbound_nodes"))]
    found += [one for ends in ("input_layers", "output_layers") for one in references(config.get(ends))]
    for layer in layers:
        if layer.get("class_name") not in MODELS:
            continue
        calls = [one for one in found if one.layer == layer.get("name")]
        excess = max((one.call for one in calls), default=0) + 1 - len(layer.get("inbound_nodes") or [])
        if layer.get("inbound_nodes") and excess > 0:
            for one in calls:
                one.where[1] = max(one.call - excess, 0)


def _mend_arguments(config: dict[str, Json]) -> None:
    """Tensors among a call's arguments by name (attention's `value`), which Keras 3 reads in its own form alone."""
    for layer in config.get("layers") or []:
        nodes = layer.get("inbound_nodes") if isinstance(layer, dict) else None
        for number, node in enumerate(nodes or []):
            own = [one for one in node if len(one) == 4 and references(one[3])] if isinstance(node, list) else []
            if own:
                inputs = [_tensor(one) for one in node]
                named = {key: _with_tensors(value) for key, value in own[-1][3].items()}
                nodes[number] = {"args": inputs if len(inputs) == 1 else [inputs], "kwargs": named}


def _with_tensors(part: Json) -> Json:
    if isinstance(part, dict):
        return {key: _with_tensors(value) for key, value in part.items()}
    if not isinstance(part, list):
        return part
    if (found := references(part)) and found[0].where is part:
        return _tensor(part)
    return [_with_tensors(inner) for inner in part]


def _tensor(where: list[Json]) -> dict[str, Json]:
    """A reference as Keras 3 writes it; shape and dtype are found anew when the layer is called."""
    return {
        "class_name": "__keras_tensor__",
        "config": {"shape": [None], "dtype": "float32", "keras_history": where[:3]},
    }


def _settings(layer: dict[str, Json]) -> dict[str, Json]:
    config = layer.get("config")
    return config if isinstance(config, dict) else {}


@dataclass(frozen=True)
class Reference:
    """`where` is [layer, call, output, ...], by which a legacy configuration names an output of a layer."""

    where: list[Json]

    @property
    def layer(self) -> Json:
        """The layer's name."""
        return self.where[0]

    @property
    def call(self) -> int:
        """Which of its calls."""
        return int(self.where[1])

    def rename(self, names: set[str]) -> None:
        """Replace the name by one that Keras 3 takes."""
        if self.layer in names:
            self.where[0] = str(self.layer).replace("/", "_")


def references(part: Json) -> list[Reference]:
    """All references in inbound nodes, or in a list of inputs or outputs, also those among a call's own arguments."""
    if isinstance(part, dict):
        return [one for value in part.values() for one in references(value)]
    if not isinstance(part, list):
        return []
    if len(part) >= 3 and isinstance(part[0], str) and all(type(number) is int for number in part[1:3]):
        return [Reference(part), *(one for inner in part[3:] for one in references(inner))]
    return [one for inner in part for one in references(inner)]
