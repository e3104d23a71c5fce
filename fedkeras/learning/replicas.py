"""What both halves of split learning have in common: weights, a state that can be put away, and replicas.

Replicas are several copies of the same variables' values, one of them in place: as many models, and one graph.
"""

from collections.abc import Hashable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from fedkeras import models
from fedkeras.models.cutting import Parts

Variable = keras.Variable | tf.Variable


class Replicas:
    """Values for `variables` by name. Changing places is cheap: tensors are handed over, their numbers not copied."""

    def __init__(self, variables: Sequence[Variable]) -> None:
        self._variables = list(variables)
        self.start()

    def start(self) -> None:
        """Forget all replicas; those to come begin with the values the variables have now."""
        self._origin, self._current = self._values(), None
        self._stored: dict[Hashable, list[tf.Tensor]] = {}

    def use(self, name: Hashable) -> None:
        """Put replica `name` in place, and keep the one that was; a name not seen since `start` is a new replica."""
        if self._current == name:
            return
        if self._current is not None:
            self._stored[self._current] = self._values()
        for variable, value in zip(self._variables, self._stored.pop(name, self._origin), strict=True):
            variable.assign(value)
        self._current = name

    def forget(self, name: Hashable) -> None:
        """Drop a replica; the next `use` of the name makes a new one."""
        self._stored.pop(name, None)
        if self._current == name:
            self._current = None

    def get_state(self) -> dict[str, np.ndarray]:
        """Copies of the values in place, under names that say no more than their position."""
        return {f"{i:03d}": variable.numpy() for i, variable in enumerate(self._variables)}

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Put values in place, as from `get_state`. Raises ValueError for a missing or misshapen one."""
        for i, variable in enumerate(self._variables):
            value = state.get(f"{i:03d}")
            if value is None or np.shape(value) != tuple(variable.shape):
                raise ValueError(
                    f"state {i:03d} is {'missing' if value is None else np.shape(value)}, must be {variable.shape}"
                )
        for i, variable in enumerate(self._variables):
            variable.assign(state[f"{i:03d}"])

    def _values(self) -> list[tf.Tensor]:
        return [tf.convert_to_tensor(variable) for variable in self._variables]


class SplitHalf:
    """What both halves have: weights under the whole model's names, replicas, and a state that can be put away."""

    PARTS: tuple[str, ...]

    def __init__(self, parts: Parts, variables: Sequence[Variable]) -> None:
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
        """Copies of this half's weights under the whole model's names."""
        return models.get_part_weights(self.parts, self.PARTS)

    def set_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Set this half's weights from its own, or from the whole model's. Raises ValueError; see set_part_weights."""
        models.set_part_weights(self.parts, self.PARTS, weights)

    def get_state(self) -> dict[str, np.ndarray]:
        """Copies of all that lasts from batch to batch: weights, optimizers, random states, metrics; no tapes."""
        return self._replicas.get_state()

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Put such a state back, here or in another process. Raises ValueError for one that does not fit."""
        self._replicas.set_state(state)
