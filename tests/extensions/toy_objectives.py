"""An objective that the product knows nothing of: the gradients of a step, together, are cut to an L2 norm."""

import tensorflow as tf

from fedkeras.learning.objectives import Objective


class Bounded(Objective):
    """The model's own loss; a step's gradients have at most the norm `norm`, all together."""

    def __init__(self, norm: float = 1.0) -> None:
        self.norm = float(norm)

    def gradients(self, *arguments):
        of_loss = super().gradients(*arguments)
        bounded, _ = tf.clip_by_global_norm(of_loss.of_weights, self.norm)
        return of_loss._replace(of_weights=bounded)
