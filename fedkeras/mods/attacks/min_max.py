"""Min-max: a lie as far from the mean as it can be without being further from any update than two honest ones are.

Shejwalkar, Houmansadr: Manipulating the Byzantine: Optimizing Model Poisoning Attacks and Defenses for Federated
Learning, NDSS 2021, https://www.ndss-symposium.org/ndss-paper/manipulating-the-byzantine-optimizing-model-poisoning-
attacks-and-defenses-for-federated-learning/, section IV ("AGR-agnostic: Min-Max"). All malicious clients send

    lie  =  mean + gamma p,    gamma = max { gamma : max_i |lie - u_i| <= max_ij |u_i - u_j| }

of the updates u that they know. The perturbation p, one of three: `deviation` (minus the standard deviation of each
single weight; the best of most of the paper's experiments, and the default), `sign` (minus the sign of the mean), or
`unit` (minus the mean, of length 1). The paper searches for gamma by halving steps from 10 on, down to 1e-5; the
condition is one of second degree in gamma for each i, so the largest gamma that holds for all is computed exactly here.
"""

from collections.abc import Sequence

import numpy as np

from fedkeras.mods.attacks.collusion import ColludingAttack, Round, deviation_of, mean_of
from fedkeras.mods.attacks.updates import Update, dot, norm

PERTURBATIONS = ("deviation", "sign", "unit")


class MinMax(ColludingAttack):
    """`--mods "min-max:malicious=0.2,perturbation=deviation"`."""

    name = "min-max"

    def __init__(self, malicious: float = 0.2, perturbation: str = "deviation", omniscient: bool = False) -> None:
        super().__init__(malicious, omniscient)
        if perturbation not in PERTURBATIONS:
            raise ValueError(f"perturbation must be one of {', '.join(PERTURBATIONS)}, not {perturbation}")
        self.perturbation = perturbation

    @property
    def does(self) -> str:
        return f"send the mean and as much of the perturbation '{self.perturbation}' as passes, {self.knowing}"

    def lie(self, known: Sequence[Update], asked: Round) -> Update:
        """mean + gamma p."""
        mean, p = mean_of(known), self.direction(known)
        gamma = largest_gamma(known, mean, p)
        return {name: mean[name] + gamma * p[name] for name in mean}

    def direction(self, known: Sequence[Update]) -> dict[str, np.ndarray]:
        """The perturbation p."""
        if self.perturbation == "deviation":
            return {name: -deviation for name, deviation in deviation_of(known).items()}
        mean = mean_of(known)
        if self.perturbation == "sign":
            return {name: -np.sign(array) for name, array in mean.items()}
        length = norm(mean) or 1.0
        return {name: -array / length for name, array in mean.items()}


def largest_gamma(known: Sequence[Update], mean: Update, p: Update) -> float:
    """The largest gamma for which mean + gamma p is no further from any update than two of them are; 0 of no p.

    |mean + gamma p - u|^2 = |c|^2 - 2 gamma <c, p> + gamma^2 |p|^2 with c = u - mean, and |u_i - u_j| = |c_i - c_j|.
    """
    square = dot(p, p)
    if not square:
        return 0.0
    products, along = np.zeros((len(known), len(known))), np.zeros(len(known))
    for name, array in mean.items():
        c = np.stack([update[name] - array for update in known]).reshape(len(known), -1)
        products += c @ c.T
        along += c @ p[name].ravel()
    lengths = products.diagonal()
    widest = (lengths[:, None] + lengths - 2 * products).max()
    room = np.maximum(widest - lengths, 0.0)
    return float(((along + np.sqrt(along**2 + square * room)) / square).min())
