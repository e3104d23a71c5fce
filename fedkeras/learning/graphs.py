"""A whole training, and a whole evaluation, as one TensorFlow graph each: the loop over batches runs inside.

A training is one loop over the steps of all epochs, not a loop in a loop, which would trace more slowly. Nothing in a
graph depends on the number of examples, the batch size or the number of epochs, so another client needs no new graph.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from fedkeras.learning.optimizers import make_fresh

Graph = Callable[..., tuple[tf.Tensor, list[tf.Tensor]]]


def training_graph(
    model: keras.Model, metrics: list, fresh: list, seeds: list, x: tf.Tensor, y: tf.Tensor, proximal: bool,
    last: bool = True,
) -> Graph:  # fmt: skip
    """Trace and return `train(x, y, orders, batch_size, seed_values, mu) -> (loss, metric values)` of the last epoch.

    Each row of `orders` (epochs, examples) says in what order an epoch takes the examples; `seed_values` (seeds, 2) go
    into the model's random states `seeds`; `fresh` is the optimizer's start (`build_fresh`). With `proximal`, each
    gradient gets `mu * (w - w at the start)`; without, `mu` costs nothing. `x` and `y` say what shapes to expect.
    Without `last`, training goes on after these epochs: averages that an optimizer keeps are not yet put in place.
    """
    weights, optimizer = model.trainable_variables, model.optimizer

    def train(x: Any, y: Any, orders: Any, batch_size: Any, seed_values: Any, mu: Any) -> tuple:
        make_fresh(fresh)
        for i, seed in enumerate(seeds):
            seed.assign(seed_values[i])
        anchors = [tf.identity(weight.value) for weight in weights] if proximal else []
        epochs, examples = tf.shape(orders)[0], tf.shape(orders)[1]
        steps = (examples + batch_size - 1) // batch_size

        def one_step(step: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            first = step % steps * batch_size
            tf.cond(first == 0, lambda: _reset(metrics), lambda: tf.constant(0))
            chosen = orders[step // steps, first : first + batch_size]
            batch_x, batch_y = tf.gather(x, chosen), tf.gather(y, chosen)
            with tf.GradientTape() as tape:
                predicted = model(batch_x, training=True)
                loss = model.compute_loss(batch_x, batch_y, predicted, training=True)
                scaled = optimizer.scale_loss(loss)
            gradients = tape.gradient(scaled, weights)
            if proximal:
                gradients = [
                    None if gradient is None else tf.convert_to_tensor(gradient) + mu * (weight.value - anchor)
                    for gradient, weight, anchor in zip(gradients, weights, anchors, strict=True)
                ]
            optimizer.apply_gradients(zip(gradients, weights, strict=True))
            _update(metrics, batch_y, predicted)
            total = tf.where(first == 0, tf.zeros_like(total), total)
            return step + 1, total + _times(loss, tf.size(chosen))

        start = tf.constant(0), tf.constant(0.0, tf.float64)
        _, total = tf.while_loop(lambda step, _: step < epochs * steps, one_step, start, parallel_iterations=1)
        if last:
            optimizer.finalize_variable_values(weights)
        return total / tf.cast(examples, tf.float64), [metric.result() for metric in metrics]

    orders, batch_size = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([], tf.int32)
    seed_values, mu = tf.TensorSpec([len(seeds), 2], tf.uint32), tf.TensorSpec([], tf.float32)
    return _trace(train, x, y, orders, batch_size, seed_values, mu)


def evaluation_graph(model: keras.Model, metrics: list, x: tf.Tensor, y: tf.Tensor) -> Graph:
    """Trace and return `evaluate(x, y, batch_size) -> (loss, metric values)`; `x` and `y` say what shapes to expect."""

    def evaluate(x: Any, y: Any, batch_size: Any) -> tuple:
        _reset(metrics)
        examples = tf.shape(x)[0]

        def one_step(first: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            batch_x, batch_y = x[first : first + batch_size], y[first : first + batch_size]
            predicted = model(batch_x, training=False)
            loss = model.compute_loss(batch_x, batch_y, predicted, training=False)
            _update(metrics, batch_y, predicted)
            return first + batch_size, total + _times(loss, tf.shape(batch_x)[0])

        start = tf.constant(0), tf.constant(0.0, tf.float64)
        _, total = tf.while_loop(lambda first, _: first < examples, one_step, start, parallel_iterations=1)
        return total / tf.cast(examples, tf.float64), [metric.result() for metric in metrics]

    return _trace(evaluate, x, y, tf.TensorSpec([], tf.int32))


def _trace(function: Callable, x: tf.Tensor, y: tf.Tensor, *arguments: tf.TensorSpec) -> Graph:
    data = [tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype) for tensor in (x, y)]
    # Without autograph, as Keras traces a training step itself; jit_compile stays off, for XLA's convolutions on a CPU
    # are slower than oneDNN's by orders of magnitude.
    return tf.function(function, autograph=False, jit_compile=False).get_concrete_function(*data, *arguments)


def _reset(metrics: list) -> tf.Tensor:
    for metric in metrics:
        metric.reset_state()
    return tf.constant(0)


def _update(metrics: list, y: tf.Tensor, predicted: tf.Tensor) -> None:
    for metric in metrics:
        metric.update_state(y, predicted)


def _times(loss: tf.Tensor, examples: tf.Tensor) -> tf.Tensor:
    # In float64, so that the mean over a large client is as exact as over a small one.
    return tf.cast(loss, tf.float64) * tf.cast(examples, tf.float64)
