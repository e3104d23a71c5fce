"""The server's half of split learning: the middle of the model, several batches in flight, replicas if need be."""

from collections.abc import Hashable, Mapping

import keras
import numpy as np
import tensorflow as tf

from fedkeras.learning import optimizers
from fedkeras.learning.replicas import Side
from fedkeras.learning.segment import Segment
from fedkeras.models.cutting import Parts

Array = np.ndarray | tf.Tensor


class Body(Side):
    """The server's half: M2 and its optimizer, several batches in flight at once, a replica for each client or none."""

    PARTS = ("body",)

    def __init__(
        self,
        parts: Parts,
        *,
        optimizer: str | keras.optimizers.Optimizer = "sgd",
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 0.1,
        optimizer_args: Mapping | None = None,
    ) -> None:
        made = optimizers.make(optimizer, learning_rate, optimizer_args)
        self._segment = Segment(parts.models["body"], made, gradient_of_input=True)
        super().__init__(parts, self._segment.variables)

    def forward(
        self, activations: Array, seeds: np.ndarray | None = None, key: Hashable | None = None
    ) -> tuple[np.ndarray, float]:
        """M2 on a batch, training: its output and its regularisation terms. `seeds` and `key` as in `Ends.forward`."""
        output, penalty, _ = self._segment.forward(activations, seeds, key)
        return np.asarray(output), float(penalty)

    def backward(self, gradient: Array, key: Hashable) -> np.ndarray:
        """Update M2 by the gradient with respect to its output in batch `key`; return that of its input.

        Raises ValueError for an unknown key, and a gradient of another shape than the output had.
        """
        return np.asarray(self._segment.backward(gradient, key))

    def gradient(self, gradient: Array, key: Hashable) -> np.ndarray:
        """`backward` but for the update, which `update` makes: before anything else is done with M2.

        So the gradient can be on its way meanwhile.
        """
        return np.asarray(self._segment.gradient(gradient, key))

    def update(self) -> None:
        """Update M2 by what the last `gradient` has left."""
        self._segment.update()

    def backward_again(self, activations: Array, gradient: Array, seeds: np.ndarray) -> np.ndarray:
        """The same for a batch no tape was kept of; `seeds` are M2's, as they were before its forward."""
        return np.asarray(self._segment.backward_again(activations, gradient, seeds))

    def seeds(self) -> np.ndarray:
        """M2's random states (states, 2) as they stand."""
        return self._segment.seeds()

    def set_seeds(self, seeds: Mapping[str, np.ndarray]) -> None:
        """Set M2's random states, as from `models.split_seeds`."""
        self._segment.set_seeds(seeds["body"])

    def forward_eval(self, activations: Array) -> tuple[np.ndarray, float]:
        """M2 on a batch as in prediction: its output and its regularisation terms."""
        output, penalty = self._segment.test(activations)
        return np.asarray(output), float(penalty)

    def in_flight(self) -> list[Hashable]:
        """Keys of the batches that wait for their gradient, the oldest first."""
        return self._segment.in_flight()

    def cancel(self, key: Hashable) -> None:
        """Drop a batch whose gradient will not come."""
        self._segment.forget(key)

    def finalize(self) -> None:
        """Put averaged weights in at the end of a training, where the optimizer keeps such (`use_ema`)."""
        self._segment.finalize()

    def _start(self) -> None:
        self._segment.start()
