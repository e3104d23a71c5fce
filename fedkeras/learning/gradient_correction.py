"""Gradients with a fixed array added to each: what a client of SCAFFOLD steps along.

S. P. Karimireddy, S. Kale, M. Mohri, S. Reddi, S. Stich, A. T. Suresh, "SCAFFOLD: Stochastic Controlled Averaging for
Federated Learning", ICML 2020, arXiv:1910.06378, algorithm 1: y <- y - eta_l (g(y) + c - c_i). c - c_i comes beside the
model in the train message (`fedkeras.mods.control_variates`), and is the same in all steps of a round. An optimizer
with momentum takes the corrected gradient for the gradient.
"""

from collections.abc import Hashable, Sequence

import keras
import numpy as np
import tensorflow as tf

from fedkeras.errors import UserError
from fedkeras.learning.objectives import Gradients, Objective


class GradientCorrection(Objective):
    """The loss, with the record's arrays added to its gradients. The loss that is reported is the loss."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []

    def graph_key(self) -> Hashable:
        """The class alone: the arrays are arguments of the graph."""
        return type(self)

    def take(self, arrays: Sequence[np.ndarray]) -> None:
        """The corrections."""
        self.arrays = list(arrays)

    def begin(self, weights: Sequence[keras.Variable], rng: np.random.Generator) -> Sequence[tf.Tensor]:
        """A tensor a weight. Raises UserError for arrays of other shapes, and for none."""
        shapes = [tuple(weight.shape) for weight in weights]
        if [array.shape for array in self.arrays] != shapes:
            raise UserError("the objective gradient-correction has no corrections in the shapes of the model's weights")
        return [tf.constant(array) for array in self.arrays]

    def gradients(
        self,
        model: keras.Model,
        x: tf.Tensor,
        y: tf.Tensor,
        weights: Sequence[keras.Variable],
        begun: Sequence[tf.Tensor],
        step: tf.Tensor,
        sample_weight: tf.Tensor | None = None,
    ) -> Gradients:
        """The loss's gradients, each with its correction."""
        of_loss = super().gradients(model, x, y, weights, begun, step, sample_weight)
        corrected = [
            None if gradient is None else (dense := tf.convert_to_tensor(gradient)) + tf.cast(correction, dense.dtype)
            for gradient, correction in zip(of_loss.of_weights, begun, strict=True)
        ]
        return of_loss._replace(of_weights=corrected)
