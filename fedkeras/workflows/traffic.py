"""What a round is expected to move between server and clients, before there has been one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from fedkeras import models
from fedkeras.config import Config
from fedkeras.federation.sampling import cohort_size
from fedkeras.mods.chain import make_mods

if TYPE_CHECKING:
    import keras

Sizes = Sequence[tuple[int, int]]
"""How many examples each client trains and tests on, in the order of cid."""


class Traffic(NamedTuple):
    """Bytes of arrays in one round, to all clients and back from all; headers and figures are not counted."""

    down: int
    up: int


def weight_bytes(weights: "Sequence[keras.Variable]") -> int:
    """The bytes of these variables on the wire, which is as they are."""
    return sum(variable.numpy().nbytes for variable in weights)


def cohorts(config: Config) -> tuple[int, int]:
    """How many clients a round asks to train and to evaluate."""
    asked = (config.fraction_train, config.fraction_evaluate)
    train, evaluate = (cohort_size(config.num_partitions, share) if share else 0 for share in asked)
    return train, evaluate


def of_rounds(config: Config, model: "keras.Model") -> Traffic:
    """Federated rounds: all weights to who trains, back from them, and the new ones to who evaluates."""
    train, evaluate = cohorts(config)
    arrays = {name: variable.numpy() for name, variable in zip(models.names(model), model.weights, strict=True)}
    moved = make_mods(config.mods).model_bytes(arrays, models.trainable_names(model))
    return Traffic(moved.down * (train + evaluate) + moved.beside * train, moved.up * train)
