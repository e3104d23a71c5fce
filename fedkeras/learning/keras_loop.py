"""Training and testing a model that has its own `train_step` or `test_step`: by Keras' own loops, batch after batch.

Such a step may do anything (several losses, gradients of gradients), so it runs as it is, in `fit` and `evaluate`.
"""

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf


def has_own(model: keras.Model, method: str) -> bool:
    """True if `model`'s class replaces Keras' own `method`: "train_step", "test_step" or "compute_loss"."""
    return getattr(type(model), method) is not getattr(keras.Model, method)


def fit(
    model: keras.Model,
    x: tf.Tensor,
    y: tf.Tensor,
    orders: np.ndarray,
    batch_size: int,
    sample_weight: tf.Tensor | None = None,
) -> tuple[float, dict[str, float]]:
    """Train by `model.fit`, an epoch for each row of `orders`; return the last epoch's loss and metrics.

    With `sample_weight` (examples,) the step's data are (x, y, sample_weight), as Keras hands them to it. Raises
    ValueError if the step does not return its loss as "loss".
    """
    _build_metrics(model, x, y)
    for order in orders:
        chosen = tf.gather(x, order), tf.gather(y, order)
        own = {} if sample_weight is None else {"sample_weight": tf.gather(sample_weight, order)}
        history = model.fit(*chosen, batch_size=batch_size, shuffle=False, verbose=0, **own).history
    return _split({name: values[-1] for name, values in history.items()})


def fit_span(
    model: keras.Model,
    x: tf.Tensor,
    y: tf.Tensor,
    orders: np.ndarray,
    batch_size: int,
    steps: tuple[int, int],
    sample_weight: tf.Tensor | None = None,
) -> tuple[float, dict[str, float]]:
    """The same from one of the training's steps to another; loss and metrics are of the last epoch's part of them."""
    a_epoch = -(-orders.shape[1] // batch_size)
    step, end = steps
    found: tuple[float, dict[str, float]] = (float("nan"), {})
    while step < end:
        epoch, first = divmod(step, a_epoch)
        last = min(a_epoch, first + end - step)
        order = orders[epoch, first * batch_size : last * batch_size]
        found = fit(model, x, y, order[None], batch_size, sample_weight)
        step += last - first
    return found


def evaluate(model: keras.Model, x: tf.Tensor, y: tf.Tensor, batch_size: int) -> tuple[float, dict[str, float]]:
    """Test by `model.evaluate`; return loss and metrics. Raises ValueError if there is no "loss"."""
    _build_metrics(model, x, y)
    return _split(model.evaluate(x, y, batch_size=batch_size, verbose=0, return_dict=True))


def _build_metrics(model: keras.Model, x: tf.Tensor, y: tf.Tensor) -> None:
    """Let Keras make its metrics: its loops ask for their results even when an own step has never used them."""
    model.compute_metrics(x[:1], y[:1], model(x[:1], training=False), sample_weight=None)
    model.reset_metrics()


def _split(values: Mapping[str, float]) -> tuple[float, dict[str, float]]:
    if "loss" not in values:
        raise ValueError(f"the model's own step returns {', '.join(values)}; it must return 'loss' too")
    return values["loss"], {name: value for name, value in values.items() if name != "loss"}
