"""Keras architectures, model files (.keras, .h5) and weights under stable names.

Importing this package does not import Keras; using `build`, `save` or `load` does.
"""

import importlib

from fedkeras.models.weights import get_weights, random_states, set_weights
from fedkeras.models.zoo import BUILT_IN, DEFAULT_CUTS, DEFAULT_MODELS, cut_points
from fedkeras.tensorflow_import import import_tensorflow

__all__ = [
    "BUILT_IN",
    "DEFAULT_CUTS",
    "DEFAULT_MODELS",
    "build",
    "cut",
    "cut_points",
    "get_part_weights",
    "get_weights",
    "join",
    "join_weights",
    "load",
    "random_states",
    "save",
    "set_part_weights",
    "set_weights",
    "split_seeds",
    "split_weights",
]

_LATER = {
    "build": "fedkeras.models.building",
    "cut": "fedkeras.models.cutting",
    "get_part_weights": "fedkeras.models.cutting",
    "join": "fedkeras.models.cutting",
    "join_weights": "fedkeras.models.cutting",
    "set_part_weights": "fedkeras.models.cutting",
    "split_seeds": "fedkeras.models.cutting",
    "split_weights": "fedkeras.models.cutting",
    "load": "fedkeras.models.files",
    "save": "fedkeras.models.files",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module 'fedkeras.models' has no attribute '{name}'")
    import_tensorflow()  # here, so that its greeting stays out of notebooks
    return getattr(importlib.import_module(_LATER[name]), name)
