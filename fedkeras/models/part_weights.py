"""Weights and random states of a model's parts, under the whole model's names: to sort, to join, to get and to set.

So the weights of the three parts together are the whole model's, and a checkpoint is as any other.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fedkeras.models.weights import names, set_weights

if TYPE_CHECKING:
    import keras

    from fedkeras.models.cutting import Parts


def get_part_weights(parts: "Parts", which: Sequence[str]) -> dict[str, np.ndarray]:
    """Copies of the weights of some parts, such as ("M1", "M3"), under the whole model's names."""
    return {name: variable.numpy() for name, variable in _variables(parts, which).items()}


def set_part_weights(parts: "Parts", which: Sequence[str], weights: Mapping[str, np.ndarray]) -> None:
    """Copy `weights` into some parts; those of the other parts may be among them, and are left alone.

    Raises ValueError naming the first weight that is missing, unknown or of another shape; nothing is changed then.
    """
    own = _variables(parts, which)
    for name, variable in own.items():
        if name not in weights:
            raise ValueError(f"weight '{name}' of {' and '.join(which)} is missing")
        if np.shape(weights[name]) != tuple(variable.shape):
            raise ValueError(f"weight '{name}' has shape {np.shape(weights[name])}; the model's is {variable.shape}")
    if unknown := set(weights).difference(*parts.names.values()):
        raise ValueError(f"weight '{min(unknown)}' is in no part of the model")
    for name, variable in own.items():
        variable.assign(weights[name])


def split_weights(parts: "Parts", weights: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Sort the whole model's weights (as from `get_weights`) by part; they keep the whole model's names."""
    return {part: {name: weights[name] for name in own} for part, own in parts.names.items()}


def join_weights(parts: "Parts", *weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The whole model's weights, in its order, from those of its parts. Raises ValueError if one is missing."""
    together = {name: array for some in weights for name, array in some.items()}
    if missing := [name for name in names(parts.whole) if name not in together]:
        raise ValueError(f"weight '{missing[0]}' of the whole model is in none of the parts")
    return {name: together[name] for name in names(parts.whole)}


def join(parts: "Parts", *weights: Mapping[str, np.ndarray]) -> "keras.Model":
    """The whole model, with the parts' trained weights in it: those in its own variables, or `weights` of the parts.

    Raises ValueError for a weight that is missing, or has another shape.
    """
    if weights:
        set_weights(parts.whole, join_weights(parts, *weights))
    return parts.whole


def split_seeds(parts: "Parts", values: np.ndarray) -> dict[str, np.ndarray]:
    """Sort the values (seeds, 2) of the whole model's random states by part, in each part's order."""
    return {part: np.asarray(values, np.uint32).reshape(-1, 2)[own] for part, own in parts.seeds.items()}


def _variables(parts: "Parts", which: Sequence[str]) -> dict[str, "keras.Variable"]:
    pairs = [zip(parts.names[part], parts.models[part].weights, strict=True) for part in which]
    return {name: variable for pair in pairs for name, variable in pair}
