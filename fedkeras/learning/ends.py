"""The client's half of split learning: the first part of the model, the last one, the loss and the metrics."""

from collections.abc import Hashable, Mapping

import keras
import numpy as np
import tensorflow as tf

from fedkeras.learning import optimizers, targets
from fedkeras.learning.distance_correlation import distance_correlation
from fedkeras.learning.last_part import LastPart
from fedkeras.learning.outcome import Outcome
from fedkeras.learning.segment import Segment
from fedkeras.learning.side import Side
from fedkeras.models.cutting import Parts

Array = np.ndarray | tf.Tensor


class Ends(Side):
    """The client's half: M1, M3, the loss and the metrics. Everything at its border is numpy.

    Optimizer, loss and metrics are as Learner's. `noise` is the standard deviation of Gaussian noise on all activations
    that leave, in evaluation too, for a server that saw an example clean once would have it. Its seeds come from the
    operating system and not from the run's, which the server knows: so a run with noise cannot be repeated, unless
    `noise_rng` is given. `nopeek` is the weight alpha of NoPeek's distance correlation between a batch and its
    activations, before noise. Raises UserError for an
    optimizer that cannot be split, and for names Keras does not know.
    """

    PARTS = ("M1", "M3")

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
        self._first = Segment(parts.models["M1"], first, gradient_of_input=False, objective=objective)
        self._last = LastPart(parts.models["M3"], last, loss, metrics, parts.whole)
        self._leak = keras.metrics.Mean(name="distance_correlation", dtype="float64")
        self._noise, self._nopeek, self._rng = noise, nopeek, noise_rng or np.random.default_rng()
        super().__init__(parts, [*self._first.variables, *self._last.variables, *self._leak.variables])

    def place(self, x: np.ndarray, y: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Check a client's arrays and return them in the form training takes; x and y as in `Learner.place`.

        Raises ValueError for what does not fit.
        """
        x, whole = targets.check_examples(x, self.parts.models["M1"].inputs[0]), self.parts.whole
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
        self._first.set_seeds(seeds["M1"])
        self._last.set_seeds(seeds["M3"])

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

    def outcome(self) -> Outcome:
        """Means over the examples since `start` or the last `outcome`; counting then begins anew.

        With NoPeek, metrics has the mean of `distance_correlation`, which the loss is without.
        """
        leak = {"distance_correlation": float(self._leak.result())} if self._nopeek else {}
        self._leak.reset_state()
        examples, loss, metrics = self._last.counted()
        others = {name: value for name, value in metrics.items() if name != "accuracy"}
        return Outcome(examples, loss, metrics.get("accuracy"), {**others, **leak})

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
