"""What both sides of split learning have in common: weights, replicas, and a state that can be put away."""

from collections.abc import Hashable, Mapping

import numpy as np

from fedkeras import models
from fedkeras.learning.replicas import Replicas
from fedkeras.models.cutting import Parts


class Side:
    """What both sides have: weights under the whole model's names, replicas, and a state that can be put away."""

    PARTS: tuple[str, ...]

    def __init__(self, parts: Parts, variables: list) -> None:
        self.parts = parts
        self._replicas = Replicas(variables)

    def start(self, weights: Mapping[str, np.ndarray] | None = None) -> None:
        """Begin a training: with `weights` if given, new optimizers, nothing in flight and no replicas."""
        if weights is not None:
            self.set_weights(weights)
        self._start()
        self._replicas.start()

    def use(self, replica: Hashable) -> None:
        """Work from now on with the variables of `replica`, a client's; one not seen since `start` begins as that did.

        Weights, optimizer, random states and metrics change places; what is in flight does not, so keys must differ
        between replicas.
        """
        self._replicas.use(replica)

    def forget(self, replica: Hashable) -> None:
        """Drop a replica, of a client that is gone or done."""
        self._replicas.forget(replica)

    def get_weights(self) -> dict[str, np.ndarray]:
        """Copies of this side's weights under the whole model's names."""
        return models.get_part_weights(self.parts, self.PARTS)

    def set_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Set this side's weights from its own, or from the whole model's. Raises ValueError; see set_part_weights."""
        models.set_part_weights(self.parts, self.PARTS, weights)

    def get_state(self) -> dict[str, np.ndarray]:
        """Copies of all that lasts from batch to batch: weights, optimizers, random states, metrics; no tapes."""
        return self._replicas.get_state()

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Put such a state back, here or in another process. Raises ValueError for one that does not fit."""
        self._replicas.set_state(state)
