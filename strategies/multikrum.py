"""Multi-Krum.

Blanchard, El Mhamdi, Guerraoui, Stainer: Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent,
NeurIPS 2017, https://arxiv.org/abs/1703.02757, section 5, on updates w_k - w instead of gradients.

Of K clients, f of whom may be Byzantine, the m with the lowest scores of Krum (`krum.py`) are averaged, each counted
once. `num_selected` is m; unset it is K - f - 2, the largest for which El Mhamdi et al. (ICML 2018) show the guarantee
of Krum, and the mean of so many is hardly noisier than the mean of all. The guarantee needs K >= 2f + 3: a run of fewer
is refused, and a round that fewer have answered is repeated.

As in Krum the distances are those of the trainable arrays, and of the chosen clients all arrays are averaged. All
updates of a round are in memory together, once, beside float64 copies of one array.
"""

from collections.abc import Iterable

import numpy as np
from flwr.app import ArrayRecord

from fedkeras.federation.base_strategy import AllAtOnce, by_array
from fedkeras.strategies.krum import krum_scores, require_count, squared_distances


class MultiKrum(AllAtOnce):
    """The mean of the `num_selected` (0: K - f - 2) clients nearest to the others, with f = `num_byzantine` liars.

    Raises ValueError in a round that was answered by fewer than 2f + 3 clients.
    """

    takes_all = True
    robust = True

    def __init__(self, num_byzantine: int = 1, num_selected: int = 0) -> None:
        self.num_byzantine = require_count("num_byzantine", num_byzantine, 0)
        self.num_selected = require_count("num_selected", num_selected, 0)

    def check(self, clients: int) -> Iterable[str]:
        """The paper's condition. Raises ValueError."""
        self._require(clients, "train in a round")
        if self.num_selected >= clients:
            yield f"multikrum with num_selected={self.num_selected} of {clients} clients leaves nobody out"

    def combine(self, updates: list[ArrayRecord]) -> dict[str, np.ndarray]:
        """The mean of the selected clients' arrays, in float64."""
        self._require(len(updates), "have answered")
        scores = krum_scores(squared_distances(updates, self.trainable or tuple(updates[0])), self.num_byzantine)
        m = self.num_selected or len(updates) - self.num_byzantine - 2
        chosen = [updates[index] for index in sorted(np.argsort(scores, kind="stable")[:m])]
        return by_array(chosen, lambda stack: stack.mean(axis=0, dtype=np.float64))

    def _require(self, clients: int, did: str) -> None:
        f = self.num_byzantine
        if clients < 2 * f + 3:
            raise ValueError(
                f"multikrum with num_byzantine={f} needs at least 2f + 3 = {2 * f + 3} clients a round, and {clients} "
                f"{did}; {clients} are enough for num_byzantine={(clients - 3) // 2}"
                if clients >= 3
                else f"multikrum needs at least 3 clients a round, and {clients} {did}"
            )
