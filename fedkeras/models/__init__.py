"""Keras architectures, model files (.keras, .h5) and weights under stable names.

Importing this package does not import Keras; using `build`, `save` or `load` does.
"""

import importlib

from fedkeras.models.names import BUILT_IN, DEFAULT_MODELS
from fedkeras.models.weights import get_weights, set_weights

__all__ = ["BUILT_IN", "DEFAULT_MODELS", "build", "get_weights", "load", "save", "set_weights"]

_LATER = {"build": "fedkeras.models.building", "load": "fedkeras.models.files", "save": "fedkeras.models.files"}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module 'fedkeras.models' has no attribute '{name}'")
    return getattr(importlib.import_module(_LATER[name]), name)
