"""Inner product manipulation: a lie that turns the mean round while it is shorter than an honest update.

Xie, Koyejo, Gupta: Fall of Empires: Breaking Byzantine-tolerant SGD by Inner Product Manipulation, UAI 2019,
https://arxiv.org/abs/1903.03936, section 4. All malicious clients send

    lie  =  - epsilon mean

with the mean of the updates that they know. The mean of all n, m of whom lie, points backwards if epsilon > (n - m) / m
(4 for a fifth); against Krum, medians and their like a small epsilon does more, since the lies are close together.
"""

import math
from collections.abc import Sequence

from fedkeras.mods.attacks.attack import require_number
from fedkeras.mods.attacks.collusion import ColludingAttack, Round, mean_of
from fedkeras.mods.attacks.updates import Update


class Ipm(ColludingAttack):
    """`--mods "ipm:malicious=0.2,epsilon=0.5"`."""

    name = "ipm"
    least = 1

    def __init__(self, malicious: float = 0.2, epsilon: float = 0.5, omniscient: bool = False) -> None:
        super().__init__(malicious, omniscient)
        self.epsilon = require_number("epsilon", epsilon, 0, math.inf)

    @property
    def does(self) -> str:
        return f"send -{self.epsilon:g} times the mean, {self.knowing}"

    def lie(self, known: Sequence[Update], asked: Round) -> Update:
        """-epsilon mean."""
        return {name: -self.epsilon * mean for name, mean in mean_of(known).items()}
