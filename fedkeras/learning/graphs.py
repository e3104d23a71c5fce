"""A whole training, and a whole evaluation, as one TensorFlow graph each: the loop over batches runs inside.

A training is one loop over the steps of all epochs, not a loop in a loop, which would trace more slowly. Nothing in a
graph depends on the number of examples, the batch size or the number of epochs, so another client needs no new graph.
"""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from fedkeras.learning.objectives import Gradient, Gradients, Objective, batch_loss, only_output
from fedkeras.learning.optimizers import Fresh, make_fresh

Graph = Callable[..., tuple[tf.Tensor, list[tf.Tensor]]]
"""Takes tensors; returns the mean loss (a scalar, float64) and the value of each metric."""


def training_graph(
    model: keras.Model,
    metrics: Sequence[keras.metrics.Metric],
    fresh: Fresh,
    seeds: Sequence[keras.Variable],
    x: tf.Tensor,
    y: tf.Tensor,
    *,
    objective: Objective | None = None,
    begun: Sequence[tf.Tensor] = (),
    last: bool = True,
    weighted: bool = False,
    planned: bool = False,
    spans: bool = False,
) -> Graph:
    """Trace and return `train(x, y, orders, batch_size, seed_values, *more)`; loss and metrics are the last epoch's.

    Each row of `orders` (epochs, examples) says in what order an epoch takes the examples; `seed_values` (seeds, 2) go
    into the model's random states `seeds`; `fresh` is the optimizer's start (`build_fresh`). `x` and `y` say what
    shapes to expect. Without `last`, training goes on after these epochs: averages that an optimizer keeps are not yet
    put in place. If `weighted`, the first of `more` are the examples' weights (examples,), float32. With an objective,
    the next are the number of batches before these epochs and what its `begin` has returned, whose shapes `begun` says.
    Without these there is no more, and they cost nothing. If `planned`, a batch may have fewer than `batch_size`
    examples, none at all too: its other places in `orders` are below 0.

    With `spans` the graph goes on in the middle of a training: the first of `more` are the step to begin with, the step
    before which to stop, and the sum of the losses of the epoch's examples until then (float64); in the place of the
    mean loss it returns that sum. Metrics go on as well.
    """
    weights, optimizer = model.trainable_variables, model.optimizer

    def train(
        x: tf.Tensor, y: tf.Tensor, orders: tf.Tensor, batch_size: tf.Tensor, seed_values: tf.Tensor, *more: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        make_fresh(fresh)
        for i, seed in enumerate(seeds):
            seed.assign(seed_values[i])
        begin, end, so_far, *more = more if spans else (0, None, 0.0, *more)
        epochs, examples = tf.shape(orders)[0], tf.shape(orders)[1]
        steps = (examples + batch_size - 1) // batch_size

        def one_step(step: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            first = step % steps * batch_size
            tf.cond(first == 0, lambda: _reset(metrics), lambda: tf.constant(0))
            chosen = orders[step // steps, first : first + batch_size]
            if planned:
                chosen = tf.boolean_mask(chosen, chosen >= 0)
            batch_x, batch_y = tf.gather(x, chosen), tf.gather(y, chosen)
            of_examples = {"sample_weight": tf.gather(more[0], chosen)} if weighted else {}
            if objective is None:
                found = _of_the_loss(model, batch_x, batch_y, **of_examples)
            else:
                before, *values = more[weighted:]
                found = objective.gradients(model, batch_x, batch_y, weights, values, before + step, **of_examples)
                found = found._replace(of_weights=_scaled(found.of_weights, optimizer))
            if weights:  # a model that is frozen as a whole has statistics at most
                pairs = zip(found.of_weights, weights, strict=True)
                if objective is not None:  # which may train a part; of a loss alone Keras says what it does not reach
                    pairs = [(gradient, weight) for gradient, weight in pairs if gradient is not None]
                optimizer.apply_gradients(pairs)
            _update(metrics, batch_y, found.predicted)
            total = tf.where(first == 0, tf.zeros_like(total), total)
            return step + 1, total + _times(found.loss, tf.size(chosen))

        start = tf.convert_to_tensor(begin, tf.int32), tf.convert_to_tensor(so_far, tf.float64)
        end = epochs * steps if end is None else end
        _, total = tf.while_loop(lambda step, _: step < end, one_step, start, parallel_iterations=1)
        if last:
            optimizer.finalize_variable_values(weights)
        if spans:
            return total, [metric.result() for metric in metrics]
        if planned:
            examples = tf.maximum(1, tf.math.count_nonzero(orders[-1] >= 0, dtype=tf.int32))
        return total / tf.cast(examples, tf.float64), [metric.result() for metric in metrics]

    orders, batch_size = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([], tf.int32)
    seed_values = tf.TensorSpec([len(seeds), 2], tf.uint32)
    more = [*(tf.TensorSpec([], kind) for kind in (tf.int32, tf.int32, tf.float64))] if spans else []
    more += [tf.TensorSpec([None], tf.float32)] if weighted else []
    if objective is not None:
        more += [tf.TensorSpec([], tf.int32), *(tf.TensorSpec(t.shape, t.dtype) for t in begun)]
    return _trace(train, x, y, orders, batch_size, seed_values, *more)


def evaluation_graph(model: keras.Model, metrics: Sequence[keras.metrics.Metric], x: tf.Tensor, y: tf.Tensor) -> Graph:
    """Trace and return `evaluate(x, y, batch_size) -> (loss, metric values)`; `x` and `y` say what shapes to expect."""

    def evaluate(x: tf.Tensor, y: tf.Tensor, batch_size: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        _reset(metrics)
        examples = tf.shape(x)[0]

        def one_step(first: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            batch_x, batch_y = x[first : first + batch_size], y[first : first + batch_size]
            predicted = model(batch_x, training=False)
            loss = model.compute_loss(batch_x, batch_y, predicted, training=False)
            _update(metrics, batch_y, only_output(predicted))
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


def _of_the_loss(model: keras.Model, x: tf.Tensor, y: tf.Tensor, sample_weight: tf.Tensor | None = None) -> Gradients:
    """The loss's gradients, scaled as the optimizer expects them."""
    with tf.GradientTape() as tape:
        loss, predicted = batch_loss(model, x, y, sample_weight)
        scaled = model.optimizer.scale_loss(loss)
    return Gradients(tape.gradient(scaled, model.trainable_variables), loss, predicted)


def _scaled(gradients: Sequence[Gradient], optimizer: keras.optimizers.Optimizer) -> list[Gradient]:
    """An objective's gradients are true ones; an optimizer that scales losses will divide by its scale."""
    one = tf.constant(1.0)
    scale = optimizer.scale_loss(one)
    if scale is one:
        return list(gradients)
    return [None if gradient is None else tf.convert_to_tensor(gradient) * scale for gradient in gradients]


def _reset(metrics: Sequence[keras.metrics.Metric]) -> tf.Tensor:
    for metric in metrics:
        metric.reset_state()
    return tf.constant(0)


def _update(metrics: Sequence[keras.metrics.Metric], y: tf.Tensor, predicted: tf.Tensor) -> None:
    for metric in metrics:
        metric.update_state(y, predicted)


def _times(loss: tf.Tensor, examples: tf.Tensor) -> tf.Tensor:
    # In float64, so that the mean over a large client is as exact as over a small one.
    return tf.cast(loss, tf.float64) * tf.cast(examples, tf.float64)
