"""A model's weights as a dictionary of arrays, under names that are the same in every process; and its random states.

Keras' automatic layer names count the layers a process has made (`conv2d_3`), so they differ between machines. A name
here is the weight's position and its role: `000.kernel`, `001.bias`, `004.moving_mean`. Weights are what a layer needs
to predict: BatchNormalization's statistics are among them; an optimizer's slots are not, nor are the random states that
Dropout and its like draw from.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras


def get_weights(model: "keras.Model") -> dict[str, np.ndarray]:
    """Return copies of the model's weights, in the model's own order, under stable names."""
    return {name: variable.numpy() for name, variable in zip(names(model), model.weights, strict=True)}


def set_weights(model: "keras.Model", weights: Mapping[str, np.ndarray]) -> None:
    """Copy `weights` (as from `get_weights`) into the model, in any order of keys.

    Raises ValueError naming the first weight that is missing, unknown or of another shape; the model is then unchanged.
    """
    own = dict(zip(names(model), model.weights, strict=True))
    for name, variable in own.items():
        if name not in weights:
            raise ValueError(f"weight '{name}' of the model is missing; there are: {', '.join(list(weights)[:8])}")
        if np.shape(weights[name]) != tuple(variable.shape):
            raise ValueError(f"weight '{name}' has shape {np.shape(weights[name])}; the model's is {variable.shape}")
    for name in weights:
        if name not in own:
            raise ValueError(f"weight '{name}' is not one of the model's {len(own)}; they are: {', '.join(own)}")
    for name, variable in own.items():
        _assign(variable, weights[name])


def _assign(variable: "keras.Variable", array: np.ndarray) -> None:
    """What `variable.assign(array)` does, in 0.4 of its time: twice a round, for each weight of each client.

    Keras casts what has the type already, and TensorFlow then prepares to read the variable's new value.
    """
    import tensorflow as tf

    held = variable.value
    if isinstance(held, tf.Variable):
        held.assign(tf.constant(array, held.dtype), read_value=False)
    else:
        variable.assign(array)


def names(model: "keras.Model") -> list[str]:
    """Stable names of `model.weights`, in that order."""
    # add_weight() without a name yields `variable_7`: that number counts like a layer's, so it goes.
    return [f"{i:03d}.{re.sub(r'_[0-9]+$', '', variable.name)}" for i, variable in enumerate(model.weights)]


def trainable_names(model: "keras.Model") -> list[str]:
    """The names of the weights that training changes, in the model's order: no frozen layer's, and no statistics."""
    trained = {id(variable) for variable in model.trainable_variables}
    return [name for name, variable in zip(names(model), model.weights, strict=True) if id(variable) in trained]


def random_states(model: "keras.Model") -> list["keras.Variable"]:
    """The states (2,) uint32 of the model's seed generators, in its own order: a seed, and a count of draws."""
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]
