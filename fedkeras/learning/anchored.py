"""Ditto's objective: the loss plus half of `mu` times the squared distance to weights that come from elsewhere.

T. Li, S. Hu, A. Beirami, V. Smith, "Ditto: Fair and Robust Federated Learning Through Personalization", ICML 2021,
arXiv:2012.04221, equation (2): a client's own model v minimises F_k(v) + mu/2 * ||v - w||^2, w being the global model.
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from fedkeras.errors import UserError
from fedkeras.learning.objectives import Proximal


class Anchored(Proximal):
    """As FedProx's term, but the weights to stay near are given (`take`), and are not those that training begins with.

    `mu` is an argument of the graph, and so are the weights.
    """

    def __init__(self, mu: float = 0.1) -> None:
        super().__init__(mu)
        self._anchors: Sequence[np.ndarray] = ()

    def take(self, arrays: Sequence[np.ndarray]) -> None:
        """The weights to stay near."""
        self._anchors = arrays

    def begin(self, weights: Sequence[keras.Variable], rng: np.random.Generator) -> Sequence[tf.Tensor]:
        """Mu, and the weights to stay near. Raises UserError if there are none."""
        if len(self._anchors) != len(weights):
            raise UserError("the objective anchored needs weights to stay near, and the message brings none of them")
        anchors = [tf.constant(array, weight.value.dtype) for array, weight in zip(self._anchors, weights, strict=True)]
        return [tf.constant(self.mu, tf.float32), *anchors]
