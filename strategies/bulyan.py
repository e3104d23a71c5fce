"""Bulyan.

El Mhamdi, Guerraoui, Rouault: The Hidden Vulnerability of Distributed Learning in Byzantium, ICML 2018,
https://arxiv.org/abs/1802.07927, section 4, on weights instead of gradients.

Krum looks at distances, and a liar may hide a large lie in one of very many coordinates. Bulyan chooses first, and then
looks at each coordinate. Of K clients, f of whom may be Byzantine:

    1.  Krum chooses a client among those that are left, theta = K - 2f times (`krum.py`);
    2.  each weight is the mean of the theta - 2f values of the chosen that are nearest to their median.

The guarantee needs K >= 4f + 3: a run of fewer is refused, and a round that fewer have answered is repeated. Krum's
score is over the n - f - 2 nearest of the n clients that are left, of which the last choices leave too few: then over
one. Each client counts once. Distances are those of the trainable arrays, and step 2 is for all arrays. All updates of
a round are in memory together, once, beside float64 copies of one array.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from flwr.app import ArrayRecord

from fedkeras.federation.base_strategy import AllAtOnce, by_array
from fedkeras.strategies.krum import krum_scores, require_count, squared_distances


class Bulyan(AllAtOnce):
    """The mean of each weight over those near its median, of the clients that Krum chooses; f = `num_byzantine`.

    Raises ValueError in a round that was answered by fewer than 4f + 3 clients.
    """

    takes_all = True
    robust = True

    def __init__(self, num_byzantine: int = 1) -> None:
        self.num_byzantine = require_count("num_byzantine", num_byzantine, 0)

    def check(self, clients: int) -> Iterable[str]:
        """The paper's condition. Raises ValueError."""
        self._require(clients, "train in a round")
        return ()

    def combine(self, updates: Sequence[ArrayRecord]) -> dict[str, np.ndarray]:
        """What the chosen clients have near their median, in float64."""
        self._require(len(updates), "have answered")
        distances = squared_distances(updates, self.trainable or tuple(updates[0]))
        chosen = selected(distances, self.num_byzantine)
        kept = len(chosen) - 2 * self.num_byzantine
        return by_array([updates[index] for index in chosen], lambda stack: nearest_mean(stack, kept))

    def _require(self, clients: int, did: str) -> None:
        f, enough = self.num_byzantine, max(0, (clients - 3) // 4)
        if clients < 4 * f + 3:
            raise ValueError(
                f"bulyan with num_byzantine={f} needs at least 4f + 3 = {4 * f + 3} clients a round, and {clients} "
                f"{did}; {clients} clients are enough for num_byzantine={enough}"
            )


def selected(distances: np.ndarray, num_byzantine: int) -> list[int]:
    """Which K - 2f of K clients Krum chooses one after the other, ascending; `distances`: squared ones, (K, K)."""
    left = list(range(len(distances)))
    while len(left) > 2 * num_byzantine:
        scores = krum_scores(distances[np.ix_(left, left)], num_byzantine)
        left.pop(int(np.argmin(scores)))
    return sorted(set(range(len(distances))) - set(left))


def nearest_mean(stack: np.ndarray, kept: int) -> np.ndarray:
    """For each coordinate of `stack`, (clients, *shape), the mean of the `kept` values nearest to their median.

    Of two that are equally near the smaller one counts.
    """
    ordered = np.sort(stack, axis=0)
    away = np.abs(ordered - np.median(stack, axis=0))
    near = np.argsort(away, axis=0, kind="stable")[:kept]
    return np.take_along_axis(ordered, near, axis=0).mean(axis=0, dtype=np.float64)
