"""Krum.

Blanchard, El Mhamdi, Guerraoui, Stainer: Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent,
NeurIPS 2017, https://arxiv.org/abs/1703.02757, section 4, on updates w_k - w instead of gradients.

The score of a client is the sum of the squared distances to its K - f - 2 nearest others, where K clients answered and
f may be Byzantine. Krum takes the weights of the client with the lowest score, or the plain mean of the `num_selected`
lowest (`multikrum.py` chooses their number as the paper has it). Of equal scores the lower cid wins. The paper's
guarantee needs K > 2f + 2.

Distances are taken over the trainable arrays: BatchNormalization's statistics are no gradient's work, and are so much
larger than a round's updates that they would decide alone, and a liar with honest statistics be the one in the middle.
(The difference of two updates is that of the two weights, so w need not be known.) Of the chosen clients all arrays are
taken.
"""

from collections.abc import Iterable

import numpy as np
from flwr.app import ArrayRecord

from fedkeras.federation.base_strategy import AllAtOnce, by_array
from fedkeras.federation.records import view


class Krum(AllAtOnce):
    """The update nearest to the others, or the mean of the `num_selected` nearest, with `num_byzantine` liars allowed.

    Raises ValueError in a round that was answered by fewer than num_byzantine + 3 clients.
    """

    takes_all = True
    robust = True

    def __init__(self, num_byzantine: int = 1, num_selected: int = 1) -> None:
        self.num_byzantine = require_count("num_byzantine", num_byzantine, 0)
        self.num_selected = require_count("num_selected", num_selected, 1)

    def check(self, clients: int) -> Iterable[str]:
        """The paper's condition, and below it the least that there are scores of. Raises ValueError."""
        f = self.num_byzantine
        if clients < f + 3:
            raise ValueError(f"krum with num_byzantine={f} needs at least {f + 3} clients a round, and {clients} train")
        if clients <= 2 * f + 2:
            yield (
                f"krum with num_byzantine={f} withstands {f} liars of {2 * f + 3} clients or more, and {clients} train "
                f"in a round; {clients} clients are enough for num_byzantine={max(0, (clients - 3) // 2)}"
            )

    def combine(self, updates: list[ArrayRecord]) -> dict[str, np.ndarray]:
        """The mean of the selected clients' arrays, in float64."""
        if len(updates) < self.num_byzantine + 3:
            raise ValueError(
                f"krum with num_byzantine={self.num_byzantine} needs at least {self.num_byzantine + 3} answers "
                f"a round, and there are {len(updates)}"
            )
        scores = krum_scores(squared_distances(updates, self.trainable or tuple(updates[0])), self.num_byzantine)
        selected = sorted(np.argsort(scores, kind="stable")[: self.num_selected])
        chosen = [updates[index] for index in selected]
        return by_array(chosen, lambda stack: stack.mean(axis=0, dtype=np.float64))


def squared_distances(updates: list[ArrayRecord], names: Iterable[str]) -> np.ndarray:
    """Squared Euclidean distances over the arrays `names` between all pairs of updates, shape (K, K), in float64."""
    distances = np.zeros((len(updates), len(updates)))
    for name in names:
        flat = [view(update[name]).ravel() for update in updates]
        difference = np.empty(flat[0].size)
        for i, left in enumerate(flat):
            for j in range(i):
                np.subtract(left, flat[j], out=difference, dtype=np.float64)
                # Not `@`: BLAS puts threads to it, which cost more than so few numbers take, and may change the bits
                distances[i, j] += np.einsum("i,i", difference, difference)
    return distances + distances.T


def krum_scores(distances: np.ndarray, num_byzantine: int) -> np.ndarray:
    """Each client's summed squared distance to its K - f - 2 nearest others, to one at least, shape (K,)."""
    near = max(1, len(distances) - num_byzantine - 2)
    return np.array([np.sort(np.delete(row, index))[:near].sum() for index, row in enumerate(distances)])


def require_count(name: str, value: int, least: int) -> int:
    """The option `name` of a strategy as it is. Raises ValueError unless it is a whole number, `least` or more."""
    if type(value) is not int or value < least:
        raise ValueError(f"{name} must be a whole number, {least} or more, not {value}")
    return value
