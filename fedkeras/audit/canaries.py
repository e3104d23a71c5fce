"""What attacks with canaries have in common: how many there must be for a claim to be refutable, and their coins."""

import secrets
from collections.abc import Mapping

import numpy as np

from fedkeras.audit.attack import Attack
from fedkeras.audit.bounds import ceiling
from fedkeras.audit.subject import Subject

NUMBERS = (200, 400, 800, 1600, 3200)
"""How many canaries, where nobody says it: as few as could refute the claim by ROOM if every guess were right."""
ROOM = 1.2
FEWEST = 10
USUAL = 200
"""Where nothing is claimed."""


class CanaryAttack(Attack):
    """`canaries` 0: as many as the claim needs.

    With `seed` canaries and coins can be had again; unset, they come from the operating system, as they must where
    anybody else knows the seed.
    """

    def __init__(self, canaries: int = 0, seed: int = -1) -> None:
        if isinstance(canaries, bool) or not isinstance(canaries, int) or (canaries != 0 and canaries < FEWEST):
            raise ValueError(f"canaries must be a whole number of at least {FEWEST}, or 0 for as many as are needed")
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ValueError(f"seed must be a whole number, not {seed}")
        self.canaries, self.seed = canaries, secrets.randbits(64) if seed < 0 else seed

    def coins(self, count: int) -> np.ndarray:
        """Which canaries take part, (count,) of bool."""
        return np.random.default_rng([self.seed, 1]).random(count) < 0.5

    def count_for(self, claimed: float | None, delta: float, subject: Subject) -> int:
        """How many canaries to take against this claim; where none is enough it is said."""
        if self.canaries or claimed is None:
            return self.canaries or USUAL
        enough = [count for count in NUMBERS if ceiling(count, delta, subject.confidence) >= claimed + ROOM]
        if enough:
            return enough[0]
        # With many canaries a large delta makes errors dear: the best number need not be the largest
        best = max(NUMBERS, key=lambda count: ceiling(count, delta, subject.confidence))
        most = ceiling(best, delta, subject.confidence)
        verb = "is little room to refute" if most > claimed else "could not refute"
        subject.say(
            f"{self.name}: the largest bound that {best} canaries could give, {most:.3g}, {verb} epsilon {claimed:.3g} "
            f"at delta {delta:g}"
        )
        return best


def claim_of(subject: Subject, name: str, spent: float) -> float:
    """The epsilon to hold against what was found: what the canaries' federation has `spent`, or what the run claims.

    The run's own, in its summary under `name`, counts where it is the lower one and the run did all of its rounds, so
    that a run which counts too little is found out as well.
    """
    own = subject.summary.get(name)
    epsilon = own.get("epsilon") if isinstance(own, Mapping) else None
    whole = subject.summary.get("rounds") == subject.config.num_server_rounds
    return min(spent, float(epsilon)) if whole and isinstance(epsilon, int | float) else spent
