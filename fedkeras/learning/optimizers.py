"""Optimizers by name, and how to make a used one new again."""

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from fedkeras.config import Value
from fedkeras.errors import UserError, reason_of

LearningRate = float | keras.optimizers.schedules.LearningRateSchedule


Fresh = list[tuple[keras.Variable, tf.Tensor | keras.Variable]]
"""What an optimizer's variables are to hold before a training: see `build_fresh`."""


def names() -> list[str]:
    """Names of the Keras optimizers that a name and options can make, in lower case."""
    # These three wrap other optimizers, which a name cannot give them.
    wrappers = {"Optimizer", "LossScaleOptimizer", "MultiOptimizer"}
    classes = {name: value for name, value in vars(keras.optimizers).items() if isinstance(value, type)}
    return sorted(
        name.lower()
        for name, kind in classes.items()
        if name not in wrappers and issubclass(kind, keras.optimizers.Optimizer)
    )


def make(
    optimizer: str | keras.optimizers.Optimizer, learning_rate: LearningRate, options: Mapping[str, Value] | None
) -> keras.optimizers.Optimizer:
    """Return a new optimizer: from its name in any case, or with the configuration of the one given.

    `learning_rate` is a number or a Keras schedule, and is not used for an optimizer given whole. Raises UserError.
    """
    if isinstance(optimizer, keras.optimizers.Optimizer):
        return type(optimizer).from_config(optimizer.get_config())
    if optimizer.lower() not in names():
        raise UserError(f"--optimizer is '{optimizer}'; allowed are: {', '.join(names())}")
    kind = next(value for name, value in vars(keras.optimizers).items() if name.lower() == optimizer.lower())
    try:
        return kind(learning_rate=learning_rate, **(options or {}))
    except (TypeError, ValueError) as error:
        raise UserError(f"--optimizer-args for {kind.__name__}: {reason_of(error)}") from error


def require_separable(optimizer: keras.optimizers.Optimizer) -> None:
    """Raise UserError for an optimizer that must see all gradients of a model at once, or scales its loss.

    What is left computes each weight's update from that weight's gradient alone, `clipnorm` and `clipvalue` too: one
    optimizer for each part of a model then does what one for the whole does.
    """
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) or optimizer.loss_scale_factor:
        raise UserError("split learning does not scale losses; take --precision mixed_bfloat16, which needs none")
    if optimizer.global_clipnorm:
        raise UserError(
            "--optimizer-args global_clipnorm needs the gradients of the whole model, and in split learning nobody has "
            "them; take clipnorm, which is for each weight"
        )


def build_fresh(optimizer: keras.optimizers.Optimizer, weights: list[keras.Variable]) -> Fresh:
    """Build `optimizer` for `weights` and return, for each of its variables, what it is to hold before a training.

    That is its value after `build`: not always zero (Adagrad and Ftrl start at 0.1, Nadam's product at 1), and for
    some a weight's own value (ScheduleFreeAdamW), which is then returned as that weight.
    """
    values = [weight.numpy() for weight in weights]
    marks = [np.full(weight.shape, 1000.5 + i, weight.dtype) for i, weight in enumerate(weights)]
    for weight, mark in zip(weights, marks, strict=True):  # no two alike, so that a copy is known by its content
        weight.assign(mark)
    optimizer.build(weights)
    fresh = []
    for slot in optimizer.variables:
        start = slot.numpy()
        source = [weight for weight, mark in zip(weights, marks, strict=True) if np.array_equal(mark, start)]
        fresh.append((slot, source[0] if source else tf.constant(start)))
    for weight, value in zip(weights, values, strict=True):
        weight.assign(value)
    return fresh


def make_fresh(fresh: Fresh) -> None:
    """Set an optimizer's variables to what `build_fresh` returned; in a graph or outside."""
    for slot, start in fresh:
        slot.assign(start.value if isinstance(start, keras.Variable) else start)
