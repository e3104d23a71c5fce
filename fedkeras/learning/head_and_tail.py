"""The client's half of split learning: the head of the model, the tail, the loss and the metrics.

The tail's forward pass, gradient and update are one graph, for the labels are here. One batch of the U-shaped
configuration, in which neither the examples nor the labels leave the client, is

    activations, penalty = client.forward(x, key=batch)  # the head
    output, more = body.forward(activations, key=(cid, batch))  # the server
    gradient, loss = client.loss_and_gradient(output, y, penalty=penalty + more)  # the tail, updated
    gradient = body.backward(gradient, key=(cid, batch))  # the server, updated
    client.backward(gradient, key=batch)  # the head, updated

and with one client it does to the model what training it whole does, for each part has the optimizer it would have had,
every layer its own random states, and a short batch is averaged over the examples it has. O. Gupta, R. Raskar,
"Distributed learning of deep neural network over multiple agents", 2018, arXiv:1810.06060; P. Vepakomma et al., "Split
learning for health", 2018, arXiv:1812.00564.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from fedkeras import models
from fedkeras.config import Value
from fedkeras.learning import losses, optimizers, targets
from fedkeras.learning.losses import ChosenLoss, Loss, Targets
from fedkeras.learning.nopeek import distance_correlation
from fedkeras.learning.optimizers import LearningRate, build_fresh, make_fresh, require_separable
from fedkeras.learning.replicas import SplitHalf
from fedkeras.learning.results import TrainingResult
from fedkeras.learning.sample_weights import place_weights
from fedkeras.learning.segment import Segment, compiled, spec, to_tensor
from fedkeras.learning.targets import MetricName
from fedkeras.models.compile_config import compiled_with
from fedkeras.models.cutting import Parts
from fedkeras.models.output import SOFTMAX, output_of

Array = np.ndarray | tf.Tensor


class Tail:
    """The tail of the model `whole`, its optimizer, the loss, and counts of loss and metrics."""

    def __init__(
        self,
        part: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        loss: Loss,
        metrics: Sequence[MetricName],
        whole: keras.Model,
        learns: Targets,
    ) -> None:
        require_separable(optimizer)
        self.part, self._optimizer = part, optimizer
        output = output_of(whole)
        self.chosen = losses.choose(loss, part.loss if part.compiled else None, output, learns)
        self.loss = self.chosen.loss
        self._states = models.random_states(part)
        self._weights = part.trainable_variables
        compiled = compiled_with(part)
        others = (*metrics, *compiled.metrics)
        self._own = targets.choose_metrics(self.loss, output, others, learns, tuple(whole.input_shape)[1:])
        self._counts = keras.metrics.Mean(name="loss", dtype="float64")  # so that many examples are as exact as few
        weight = None if loss else compiled.loss_weight
        part.compile(optimizer=None, loss=self.loss, loss_weights=weight, jit_compile=False)
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

    def train(
        self, x: Array, y: Array, seeds: np.ndarray | None, penalty: float, sample_weight: Array | None = None
    ) -> tuple[tf.Tensor, float]:
        """Update the part on a batch; return the gradient of the mean loss with respect to x, and the loss."""
        self.set_seeds(seeds)
        gradient, loss = self._call(self._train, x, y, penalty, *place_weights(sample_weight, len(y)))
        return gradient, float(loss)

    def test(self, x: Array, y: Array, penalty: float) -> float:
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

    def _call(
        self, function: Callable, x: Array, y: Array, penalty: float, *weights: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor] | tf.Tensor:
        x, y = to_tensor(x, self.part.inputs[0], len(y)), tf.convert_to_tensor(y)
        key = function.__name__, tuple(y.shape[1:]), y.dtype, len(weights)
        if key not in self._graphs:
            targets_like = tf.TensorSpec([None, *y.shape[1:]], y.dtype)
            others = [tf.TensorSpec([], "float32"), *(tf.TensorSpec([None], "float32") for _ in weights)]
            self._graphs[key] = compiled(function, spec(self.part.inputs[0]), targets_like, *others)
        return self._graphs[key](x, y, tf.constant(penalty, "float32"), *weights)

    def _train(
        self, x: tf.Tensor, y: tf.Tensor, penalty: tf.Tensor, sample_weight: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            predicted = self.part(x, training=True)
            loss = self.part.compute_loss(None, y, predicted, sample_weight, training=True)
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


class HeadAndTail(SplitHalf):
    """The client's half: the head, the tail, the loss and the metrics. Everything at its border is numpy.

    Optimizer, loss and metrics are as Learner's. `noise` is the standard deviation of Gaussian noise on all activations
    that leave, in evaluation too, for a server that saw an example clean once would have it. Its seeds come from the
    operating system and not from the run's, which the server knows: so a run with noise cannot be repeated, unless
    `noise_rng` is given. `nopeek` is the weight alpha of NoPeek's distance correlation between a batch and its
    activations, before noise. Raises UserError for an optimizer that cannot be split, and for names that Keras does not
    know.
    """

    PARTS = ("head", "tail")

    def __init__(
        self,
        parts: Parts,
        *,
        optimizer: str | keras.optimizers.Optimizer = "sgd",
        learning_rate: LearningRate = 0.1,
        optimizer_args: Mapping[str, Value] | None = None,
        loss: Loss = "",
        metrics: Sequence[MetricName] = (),
        noise: float = 0.0,
        nopeek: float = 0.0,
        noise_rng: np.random.Generator | None = None,
        learns: Targets = "",
    ) -> None:
        if not (noise >= 0 and nopeek >= 0):
            raise ValueError(f"noise={noise} and nopeek={nopeek} start at 0")
        of_head, of_tail = (optimizers.make(optimizer, learning_rate, optimizer_args) for _ in range(2))
        # One optimizer for both would count two steps a batch, and Adam and schedules go by the count.
        term = (lambda x, output: nopeek * distance_correlation(x, output)) if nopeek else None
        self._head = Segment(parts.models["head"], of_head, gradient_of_input=False, term=term)
        self._tail = Tail(parts.models["tail"], of_tail, loss, metrics, parts.whole, learns)
        self._leak = keras.metrics.Mean(name="distance_correlation", dtype="float64")
        self._learns = learns
        self._noise, self._nopeek, self._rng = noise, nopeek, noise_rng or np.random.default_rng()
        super().__init__(parts, [*self._head.variables, *self._tail.variables, *self._leak.variables])

    @property
    def chosen(self) -> ChosenLoss:
        """The loss, and what was decided about it."""
        return self._tail.chosen

    def place(self, x: np.ndarray, y: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Check a client's arrays and return them in the form training takes; x and y as in `Learner.place`.

        Raises ValueError for what does not fit.
        """
        whole = self.parts.whole
        x = targets.check_examples(x, self.parts.models["head"].inputs[0], targets.looked_up_by(whole))
        from_itself = self._learns in ("", "itself") and output_of(whole).kind != SOFTMAX
        y = targets.prepare(x, y, tuple(whole.output_shape)[1:], self._tail.loss, from_itself)
        losses.check_targets(self._tail.chosen, y)
        return x, y

    def forward(
        self, x: Array, seeds: np.ndarray | None = None, key: Hashable | None = None
    ) -> tuple[np.ndarray, float]:
        """The head on a batch, training: activations (examples, ...), as they may leave, and regularisation terms.

        `seeds` (states of the head, 2) are set first; None: they go on. `key`: keep the tape for `backward`; None:
        `seeds()` before this call and x are what `backward_again` will need. Raises ValueError.
        """
        output, penalty, leak = self._head.forward(x, seeds, key)
        if self._nopeek:
            self._leak.update_state(leak / self._nopeek, sample_weight=len(x))
        return self._noisy(output), float(penalty)

    def loss_and_gradient(
        self,
        output: Array,
        y: Array,
        seeds: np.ndarray | None = None,
        penalty: float = 0.0,
        sample_weight: Array | None = None,
    ) -> tuple[np.ndarray, float]:
        """The tail, the loss, and the tail's update; return the loss's gradient with respect to `output`, and the loss.

        `output` is the body's; `y` is from `place`; `seeds` (states of the tail, 2). `penalty`, the regularisation
        terms of head and body, is added to the loss that is reported, and changes no gradient. `sample_weight`
        (examples,) is what each example's loss is multiplied by, as in `Learner.train`.
        """
        gradient, loss = self._tail.train(output, y, seeds, penalty, sample_weight)
        return np.asarray(gradient), loss

    def backward(self, gradient: Array, key: Hashable) -> None:
        """Update the head by the gradient with respect to its activations in batch `key`. Raises ValueError."""
        self._head.backward(gradient, key)

    def backward_again(self, x: Array, gradient: Array, seeds: np.ndarray) -> None:
        """The same for a process that kept no tape; `seeds` are the head's, as they were before its forward."""
        self._head.backward_again(x, gradient, seeds)

    def seeds(self) -> np.ndarray:
        """The head's random states (states, 2) as they stand."""
        return self._head.seeds()

    def set_seeds(self, seeds: Mapping[str, np.ndarray]) -> None:
        """Set the random states of both parts, as from `models.split_seeds`: once a training, as Learner does."""
        self._head.set_seeds(seeds["head"])
        self._tail.set_seeds(seeds["tail"])

    def cancel(self, key: Hashable) -> None:
        """Drop a batch whose gradient will not come."""
        self._head.forget(key)

    def forward_eval(self, x: Array) -> tuple[np.ndarray, float]:
        """The head on a batch as in prediction: activations (with noise, if any) and regularisation terms."""
        output, penalty = self._head.test(x)
        return self._noisy(output), float(penalty)

    def finish_eval(self, output: Array, y: Array, penalty: float = 0.0) -> float:
        """The tail and the loss as in prediction; return the batch's loss, and count it and the metrics."""
        return self._tail.test(output, y, penalty)

    def outcome(self) -> TrainingResult:
        """Means over the examples since `start` or the last `outcome`; counting then begins anew.

        With NoPeek, metrics has the mean of `distance_correlation`, which the loss is without.
        """
        leak = {"distance_correlation": float(self._leak.result())} if self._nopeek else {}
        self._leak.reset_state()
        examples, loss, metrics = self._tail.counted()
        others = {name: value for name, value in metrics.items() if name != "accuracy"}
        return TrainingResult(examples, loss, metrics.get("accuracy"), {**others, **leak})

    def finalize(self) -> None:
        """Put averaged weights in at the end of a training, where the optimizer keeps such (`use_ema`)."""
        self._head.finalize()
        self._tail.finalize()

    def _start(self) -> None:
        self._head.start()
        self._tail.start()
        self._leak.reset_state()

    def _noisy(self, output: tf.Tensor) -> np.ndarray:
        if self._noise:
            seed = self._rng.integers(-(2**63), 2**63, 2, np.int64)
            noise = tf.random.stateless_normal(tf.shape(output), seed, 0.0, self._noise)
            output = output + tf.cast(noise, output.dtype)
        return np.asarray(output)
