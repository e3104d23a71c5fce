"""The random states of a model: what Dropout and its like draw from. They are variables of it and no weights."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def random_states(model: "keras.Model") -> list["keras.Variable"]:
    """The states (2,) uint32 of the model's seed generators, in its own order: a seed, and a count of draws."""
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]
