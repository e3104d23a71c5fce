"""The last part of a model with the loss: forward, gradient and update in one graph, for the labels are here.

The client's half of split learning: the first part of the model, the last one, the loss and the metrics.
"""

from collections.abc import Callable, Hashable, Mapping

import keras
import numpy as np
import tensorflow as tf

from fedkeras import models
from fedkeras.learning import optimizers, targets
from fedkeras.learning.nopeek import distance_correlation
from fedkeras.learning.optimizers import build_fresh, make_fresh, require_separable
from fedkeras.learning.replicas import Side
from fedkeras.learning.results import TrainingResult
from fedkeras.learning.segment import Segment, compiled, spec, to_tensor
from fedkeras.models.cutting import Parts


class Tail:
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


Array = np.ndarray | tf.Tensor


class HeadAndTail(Side):
    """The client's half: M1, M3, the loss and the metrics. Everything at its border is numpy.

    Optimizer, loss and metrics are as Learner's. `noise` is the standard deviation of Gaussian noise on all activations
    that leave, in evaluation too, for a server that saw an example clean once would have it. Its seeds come from the
    operating system and not from the run's, which the server knows: so a run with noise cannot be repeated, unless
    `noise_rng` is given. `nopeek` is the weight alpha of NoPeek's distance correlation between a batch and its
    activations, before noise. Raises UserError for an
    optimizer that cannot be split, and for names Keras does not know.
    """

    PARTS = ("head", "tail")

    def __init__(
        self,
        parts: Parts,
        *,
        optimizer: str | keras.optimizers.Optimizer = "sgd",
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 0.1,
        optimizer_args: Mapping | None = None,
        loss: str | keras.losses.Loss = "",
        metrics: tuple[str | keras.metrics.Metric, ...] = (),
        noise: float = 0.0,
        nopeek: float = 0.0,
        noise_rng: np.random.Generator | None = None,
    ) -> None:
        if not (noise >= 0 and nopeek >= 0):
            raise ValueError(f"noise={noise} and nopeek={nopeek} start at 0")
        first, last = (optimizers.make(optimizer, learning_rate, optimizer_args) for _ in "13")
        # One optimizer for both would count two steps a batch, and Adam and schedules go by the count.
        objective = (lambda x, output: nopeek * distance_correlation(x, output)) if nopeek else None
        self._first = Segment(parts.models["head"], first, gradient_of_input=False, objective=objective)
        self._last = Tail(parts.models["tail"], last, loss, metrics, parts.whole)
        self._leak = keras.metrics.Mean(name="distance_correlation", dtype="float64")
        self._noise, self._nopeek, self._rng = noise, nopeek, noise_rng or np.random.default_rng()
        super().__init__(parts, [*self._first.variables, *self._last.variables, *self._leak.variables])

    def place(self, x: np.ndarray, y: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Check a client's arrays and return them in the form training takes; x and y as in `Learner.place`.

        Raises ValueError for what does not fit.
        """
        x, whole = targets.check_examples(x, self.parts.models["head"].inputs[0]), self.parts.whole
        from_itself = not targets.ends_in_softmax(whole)
        return x, targets.prepare(x, y, tuple(whole.output_shape)[1:], self._last.loss, from_itself)

    def forward(
        self, x: Array, seeds: np.ndarray | None = None, key: Hashable | None = None
    ) -> tuple[np.ndarray, float]:
        """M1 on a batch, training: its activations (examples, ...), as they may leave, and M1's regularisation terms.

        `seeds` (states of M1, 2) are set first; None: they go on. `key`: keep the tape for `backward`; None: `seeds()`
        before this call and x are what `backward_again` will need. Raises ValueError.
        """
        output, penalty, leak = self._first.forward(x, seeds, key)
        if self._nopeek:
            self._leak.update_state(leak / self._nopeek, sample_weight=len(x))
        return self._noisy(output), float(penalty)

    def loss_and_gradient(
        self, output: Array, y: Array, seeds: np.ndarray | None = None, penalty: float = 0.0
    ) -> tuple[np.ndarray, float]:
        """M3, the loss, and M3's update: the gradient of the mean loss with respect to `output`, M2's; and the loss.

        `y` is from `place`; `seeds` (states of M3, 2). `penalty`, M1's and M2's regularisation terms, is added to the
        loss that is reported, and changes no gradient.
        """
        gradient, loss = self._last.train(output, y, seeds, penalty)
        return np.asarray(gradient), loss

    def backward(self, gradient: Array, key: Hashable) -> None:
        """Update M1 by the gradient with respect to its activations in batch `key`. Raises ValueError."""
        self._first.backward(gradient, key)

    def backward_again(self, x: Array, gradient: Array, seeds: np.ndarray) -> None:
        """The same for a process that kept no tape; `seeds` are M1's, as they were before its forward."""
        self._first.backward_again(x, gradient, seeds)

    def seeds(self) -> np.ndarray:
        """M1's random states (states, 2) as they stand."""
        return self._first.seeds()

    def set_seeds(self, seeds: Mapping[str, np.ndarray]) -> None:
        """Set the random states of M1 and M3, as from `models.split_seeds`: once a training, as Learner does."""
        self._first.set_seeds(seeds["head"])
        self._last.set_seeds(seeds["tail"])

    def cancel(self, key: Hashable) -> None:
        """Drop a batch whose gradient will not come."""
        self._first.forget(key)

    def forward_eval(self, x: Array) -> tuple[np.ndarray, float]:
        """M1 on a batch as in prediction: activations (with noise, if any) and regularisation terms."""
        output, penalty = self._first.test(x)
        return self._noisy(output), float(penalty)

    def finish_eval(self, output: Array, y: Array, penalty: float = 0.0) -> float:
        """M3 and the loss as in prediction; return the batch's loss, and count it and the metrics in `outcome`."""
        return self._last.test(output, y, penalty)

    def outcome(self) -> TrainingResult:
        """Means over the examples since `start` or the last `outcome`; counting then begins anew.

        With NoPeek, metrics has the mean of `distance_correlation`, which the loss is without.
        """
        leak = {"distance_correlation": float(self._leak.result())} if self._nopeek else {}
        self._leak.reset_state()
        examples, loss, metrics = self._last.counted()
        others = {name: value for name, value in metrics.items() if name != "accuracy"}
        return TrainingResult(examples, loss, metrics.get("accuracy"), {**others, **leak})

    def finalize(self) -> None:
        """Put averaged weights in at the end of a training, where the optimizer keeps such (`use_ema`)."""
        self._first.finalize()
        self._last.finalize()

    def _start(self) -> None:
        self._first.start()
        self._last.start()
        self._leak.reset_state()

    def _noisy(self, output: tf.Tensor) -> np.ndarray:
        if self._noise:
            seed = self._rng.integers(-(2**63), 2**63, 2, np.int64)
            noise = tf.random.stateless_normal(tf.shape(output), seed, 0.0, self._noise)
            output = output + tf.cast(noise, output.dtype)
        return np.asarray(output)
