"""Sign flipping: a malicious client sends its update turned round, `scale` times as long.

Li, Xu, Chen, Giannakis, Ling: RSA: Byzantine-Robust Stochastic Aggregation Methods for Distributed Learning from
Heterogeneous Datasets, AAAI 2019, https://arxiv.org/abs/1811.03761, section 5 (there with scale 4); with scale 1 as in
Karimireddy, He, Jaggi: Learning from History for Byzantine Robust Optimization, ICML 2021, "bit flipping":

    w_k  ->  w - scale (w_k - w)
"""

import numpy as np

from fedkeras.mods.attacks.attack import require_number
from fedkeras.mods.attacks.local import LocalAttack
from fedkeras.mods.attacks.updates import Update


class SignFlip(LocalAttack):
    """`--mods "sign-flip:malicious=0.2,scale=1"`."""

    name = "sign-flip"

    def __init__(self, malicious: float = 0.2, scale: float = 1.0) -> None:
        super().__init__(malicious)
        self.scale = require_number("scale", scale, 0, np.inf)

    @property
    def does(self) -> str:
        return f"send their updates turned round, {self.scale:g} times as long"

    def lie(self, update: Update, rng: np.random.Generator) -> Update:
        """-scale times the update."""
        return {name: -self.scale * change for name, change in update.items()}
