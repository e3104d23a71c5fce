"""The code that a model file needs beside Keras' own, found in its configuration without running any of it.

Such a file is loaded only by somebody who says that he trusts it (`--trust-code`). Keras' safe mode stops lambdas. This
also stops classes and functions that Keras would import by the module the file names, layers that execute another file
or a pickle, and layers that read a file of whoever loads the model.
"""

import functools
import inspect
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import keras

from fedkeras.models.file_info import Json, read_config

RUNS_CODE = {
    "Lambda": "a Lambda layer, which is Python code",
    "__lambda__": "a lambda, which is Python code",
    "TFSMLayer": "a TFSMLayer, which runs another file",
    "TorchModuleWrapper": "a TorchModuleWrapper, which unpickles Python objects",
    "JaxLayer": "a JaxLayer, which calls Python code",
    "FlaxLayer": "a FlaxLayer, which calls Python code",
}
GONE = {
    name: f"a {name}, a layer of TensorFlow 2's own Keras that Keras 3 has not"
    for name in ("TFOpLambda", "SlicingOpLambda", "ThresholdedReLU", "LocallyConnected1D", "LocallyConnected2D",
                 "CuDNNLSTM", "CuDNNGRU", "DenseFeatures", "SyncBatchNormalization", "RandomHeight", "RandomWidth")
}  # fmt: skip
PLAIN = ("__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__tuple__")
"""Values that Keras writes in the form of objects."""

READS_FILES = ("StringLookup", "IntegerLookup", "TextVectorization")
NAMESPACES = (
    "activations", "constraints", "dtype_policies", "initializers", "layers", "losses", "metrics", "models",
    "optimizers", "optimizers.schedules", "quantizers", "random", "regularizers",
)  # fmt: skip
INNER_CLASSES = (
    "Functional",
    "InputLayer",
    "DTypePolicy",
    "DTypePolicyMap",
    "SeedGenerator",
    "CompileMetrics",
    "Policy",
)


def code_in(path: str | Path) -> list[str]:
    """What the file's model needs beside Keras, each in some words; empty if nothing. Raises UserError (unreadable)."""
    return foreign(read_config(path).model)


def foreign(config: Json) -> list[str]:
    """The same for a part of a configuration, such as a loss.

    A model's own compile_config is another matter: it is left behind on loading. One of a model within it is not.
    """
    found: dict[str, None] = {}  # as a set with an order
    if isinstance(config, dict):
        config = {key: value for key, value in config.items() if key != "compile_config"}
    todo = [config]
    while todo:  # not by recursion: whoever made the file decides how deep it is
        part = todo.pop()
        if isinstance(part, dict):
            if (need := _foreign_part(part)) is not None:
                found[need] = None
            todo += part.values()
        elif isinstance(part, list):
            todo += part
    return list(found)


def _foreign_part(part: Mapping[str, Json]) -> str | None:
    """What is foreign in one serialised object, None if nothing is or it is no object."""
    name, module, config = part.get("class_name"), part.get("module"), part.get("config")
    if not isinstance(name, str) or name in PLAIN:
        return None
    if name in RUNS_CODE:
        return RUNS_CODE[name]
    if name in GONE and module is None:
        return GONE[name]
    if name in READS_FILES and isinstance(config, dict) and isinstance(config.get("vocabulary"), str):
        return f"a {name} that reads the file {config['vocabulary'][:60]!r}"
    if name == "function":
        known = isinstance(config, str) and config in _functions()
        return None if known and is_keras(module, functions=True) else f"a function of its own, {str(config)[:60]!r}"
    if is_keras(module) and (name in _classes() or str(module).startswith("keras.src.ops.")):
        return None
    return f"a class of its own, {name[:60]!r}"


def is_keras(module: str | None, functions: bool = False) -> bool:
    """True if a module that a file names is Keras', or none is named."""
    if module is None or (functions and module == "builtins"):
        return True
    inner = str(module)
    # keras.utils has functions that fetch files; nothing that a model is made of lies there
    return (inner == "keras" or inner.startswith("keras.")) and not inner.startswith(("keras.utils", "keras.src.utils"))


@functools.cache
def _classes() -> frozenset[str]:
    public = {name for space in _spaces() for name, value in vars(space).items() if inspect.isclass(value)}
    return frozenset(public | set(INNER_CLASSES)) - set(RUNS_CODE)


@functools.cache
def _functions() -> frozenset[str]:
    spaces = [keras.activations, keras.losses, keras.metrics, keras.ops]
    return frozenset(name for space in spaces for name, value in vars(space).items() if inspect.isfunction(value))


def _spaces() -> list[ModuleType]:
    return [functools.reduce(getattr, space.split("."), keras) for space in NAMESPACES]
