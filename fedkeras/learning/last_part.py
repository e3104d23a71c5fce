"""The last part of a model with the loss: forward, gradient and update in one graph, for the labels are here."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from fedkeras import models
from fedkeras.learning import targets
from fedkeras.learning.optimizers import build_fresh, make_fresh, require_separable
from fedkeras.learning.segment import compiled, spec, to_tensor


class LastPart:
    """M3 of the model `whole`, its optimizer, the loss, and counts of loss and metrics."""

    def __init__(
        self,
        part: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        loss: object,
        metrics: tuple,
        whole: keras.Model,
    ) -> None:
        require_separable(optimizer)
        self.part, self._optimizer = part, optimizer
        self.loss = targets.choose_loss(part, loss)
        self._states = models.random_states(part)
        self._weights = part.trainable_variables
        self._own = targets.choose_metrics(part, self.loss, metrics, whole)
        self._counts = keras.metrics.Mean(name="loss", dtype="float64")  # so that many examples are as exact as few
        part.compile(optimizer=None, loss=self.loss, jit_compile=False)
        self._fresh = build_fresh(optimizer, self._weights)
        counts = [variable for metric in [*self._own, self._counts] for variable in metric.variables]
        self.variables = [*part.weights, *self._states, *optimizer.variables, *counts]
        self._graphs: dict[tuple, Callable] = {}

    def start(self) -> None:
        """Make the optimizer new and count from nothing."""
        make_fresh(self._fresh)
        self._reset()

    def set_seeds(self, values: np.ndarray | None) -> None:
        """Set the random states (states, 2); None: they go on."""
        if values is None:
            return
        for state, value in zip(self._states, np.asarray(values, np.uint32).reshape(-1, 2), strict=True):
            state.assign(value)

    def train(self, x: object, y: object, seeds: np.ndarray | None, penalty: float) -> tuple[tf.Tensor, float]:
        """Update the part on a batch; return the gradient of the mean loss with respect to x, and the loss."""
        self.set_seeds(seeds)
        gradient, loss = self._call(self._train, x, y, penalty)
        return gradient, float(loss)

    def test(self, x: object, y: object, penalty: float) -> float:
        """The loss of a batch as in prediction."""
        return float(self._call(self._test, x, y, penalty))

    def counted(self) -> tuple[int, float, dict[str, float]]:
        """Examples, mean loss and metrics since the last time."""
        result = (
            int(self._counts.count.numpy()),
            float(self._counts.result()),
            {metric.name: float(metric.result()) for metric in self._own},
        )
        self._reset()
        return result

    def finalize(self) -> None:
        """Put averaged weights in, where the optimizer keeps such."""
        self._optimizer.finalize_variable_values(self._weights)

    def _call(self, function: Callable, x: object, y: object, penalty: float) -> object:
        x, y = to_tensor(x, self.part.inputs[0], len(y)), tf.convert_to_tensor(y)
        key = function.__name__, tuple(y.shape[1:]), y.dtype
        if key not in self._graphs:
            targets_like = tf.TensorSpec([None, *y.shape[1:]], y.dtype)
            self._graphs[key] = compiled(
                function, spec(self.part.inputs[0]), targets_like, tf.TensorSpec([], "float32")
            )
        return self._graphs[key](x, y, tf.constant(penalty, "float32"))

    def _train(self, x: tf.Tensor, y: tf.Tensor, penalty: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            predicted = self.part(x, training=True)
            loss = self.part.compute_loss(None, y, predicted, training=True)
        gradient, *gradients = tape.gradient(loss, [x, *self._weights])
        if self._weights:
            self._optimizer.apply_gradients(zip(gradients, self._weights, strict=True))
        return gradient, self._count(y, predicted, loss + tf.cast(penalty, loss.dtype))

    def _test(self, x: tf.Tensor, y: tf.Tensor, penalty: tf.Tensor) -> tf.Tensor:
        predicted = self.part(x, training=False)
        loss = self.part.compute_loss(None, y, predicted, training=False)
        return self._count(y, predicted, loss + tf.cast(penalty, loss.dtype))

    def _count(self, y: tf.Tensor, predicted: tf.Tensor, loss: tf.Tensor) -> tf.Tensor:
        for metric in self._own:
            metric.update_state(y, predicted)
        self._counts.update_state(loss, sample_weight=tf.shape(y)[0])
        return loss

    def _reset(self) -> None:
        for metric in [*self._own, self._counts]:
            metric.reset_state()
