"""Keras models: built-in ones, files (.keras, .h5), anybody's own; and their weights under stable names.

    zoo             the built-in models, which data set's default they are, and where they are cut
    file_models     those of them that are the default of somebody's own files
    building        from a name to a model
    files           model files, written whole and read without running code from them
    file_info       what a model file says of itself, and whether rows of data fit
    file_check      what a model file may be before anything is read of it: members, links, sizes
    file_child      the same in a process with bounds on memory and time, for files of others
    parameter_budget    no more weights than a file has numbers for
    input_kind      what a model does first with an example: look numbers up, scale them, compute
    requirements    what a model must be to be trained here
    legacy_h5       files of TensorFlow 2's own Keras, as Keras 3 takes them
    trusted_code    the code that a model file needs beside Keras' own
    compile_config  what a model file's model was compiled with
    output          what the numbers are that a model gives: probabilities, or any numbers
    weights         arrays by name, and random states
    layers          which layer each weight belongs to
    cutting         head, body and tail of a model, for split learning
    precision       mixed precision
    training_note   what a file says of the training that made it
    architecture    where two models differ

Importing this package does not import Keras; using what makes, reads or cuts a model does.
"""

import importlib

import fedkeras.models.file_models  # noqa: F401 - its models enter the registry
from fedkeras.models.weights import get_weights, names, random_states, set_weights, trainable_names
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
    "names",
    "random_states",
    "save",
    "set_part_weights",
    "set_weights",
    "split_seeds",
    "split_weights",
    "trainable_names",
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
