"""Gaussian noise: a malicious client adds normal numbers to its update.

The oldest of Byzantine attacks, in Blanchard, El Mhamdi, Guerraoui, Stainer: Machine Learning with Adversaries:
Byzantine Tolerant Gradient Descent, NeurIPS 2017, https://arxiv.org/abs/1703.02757, section 6; as noise on each weight
in Gabrielli, Belli, Matrullo, Miori, Tolomei: FLANDERS, https://arxiv.org/abs/2303.16668, with deviation 10:

    w_k  ->  w_k + e,    e ~ N(0, deviation^2) for each single weight
"""

import numpy as np

from fedkeras.mods.attacks.attack import require_number
from fedkeras.mods.attacks.local import LocalAttack
from fedkeras.mods.attacks.updates import Update


class Noise(LocalAttack):
    """`--mods "noise:malicious=0.2,deviation=1"`."""

    name = "noise"

    def __init__(self, malicious: float = 0.2, deviation: float = 1.0) -> None:
        super().__init__(malicious)
        self.deviation = require_number("deviation", deviation, 0, np.inf)

    @property
    def does(self) -> str:
        return f"add normal numbers of deviation {self.deviation:g} to each weight"

    def lie(self, update: Update, rng: np.random.Generator) -> Update:
        """The update with noise."""
        return {name: change + rng.normal(0.0, self.deviation, change.shape) for name, change in update.items()}
