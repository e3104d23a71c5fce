"""Training a part of a model while the rest stays as it is: the head, or the body, in the two phases of FedRep.

L. Collins, H. Hassani, A. Mokhtari, S. Shakkottai, "Exploiting Shared Representations for Personalized Federated
Learning", ICML 2021, arXiv:2102.07078, algorithm 1.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from fedkeras import models
from fedkeras.errors import UserError
from fedkeras.learning.objectives import Gradients, Objective, batch_loss


class TrainedPart(Objective):
    """The model's loss, minimised by some of its weights: `only:arrays=008.kernel/009.bias`, by their stable names.

    The others have no gradient, so no optimizer touches them. Statistics of layers, which no gradient moves, move as
    ever; whoever wants them as they were puts them back.
    """

    def __init__(self, arrays: str) -> None:
        self.arrays = str(arrays)

    def check(self, model: keras.Model) -> None:
        """Raise UserError for arrays that are not trained, or not there."""
        if missing := set(self.arrays.split("/")) - set(models.trainable_names(model)):
            raise UserError(f"'{min(missing)}' is none of the arrays that the model trains")

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
        """Those of the named weights; None of the others, back to which nothing is propagated in vain."""
        wanted = set(self.arrays.split("/"))
        named = {id(weight): name for name, weight in zip(models.names(model), model.weights, strict=True)}
        chosen = [named[id(weight)] in wanted for weight in weights]
        with tf.GradientTape() as tape:
            loss, predicted = batch_loss(model, x, y, sample_weight)
            scaled, scale = model.optimizer.scale_loss(loss), model.optimizer.scale_loss(one := tf.constant(1.0))
        found = tape.gradient(scaled, [weight for weight, is_in in zip(weights, chosen, strict=True) if is_in])
        if scale is not one:
            found = [None if gradient is None else tf.convert_to_tensor(gradient) / scale for gradient in found]
        rest = iter(found)
        return Gradients([next(rest) if is_in else None for is_in in chosen], loss, predicted)
