"""A Little Is Enough: a lie so small that it passes for one of the others' updates.

Baruch, Baruch, Goldberg: A Little Is Enough: Circumventing Defenses For Distributed Learning, NeurIPS 2019,
https://arxiv.org/abs/1902.06156, algorithm 3. All m malicious of n clients send, for each single weight,

    lie  =  mean - z deviation,    z = max { z : Phi(z) < (n - m - s) / (n - m) },    s = floor(n / 2 + 1) - m

with mean and standard deviation of the updates that they know, estimated from their own. Phi is the normal
distribution's cumulative function: s honest clients are further from the mean than the lie, and with these supporters
the liars are the majority, so that a median is theirs. `z` of the run's options takes another one in its place. Of a
majority of liars s would be 0 or less, and 1 is taken. One liar alone in a round knows no deviation, and sends its
honest update.
"""

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np

from fedkeras.mods.attacks.attack import require_number
from fedkeras.mods.attacks.collusion import ColludingAttack, Round, deviation_of, mean_of
from fedkeras.mods.attacks.updates import Update

LEAST_Z = 0.1
"""Below it a lie is nearer to the mean than most honest updates are."""


class Alie(ColludingAttack):
    """`--mods "alie:malicious=0.2"`; `z` 0: the paper's for the clients of each round."""

    name = "alie"

    def __init__(self, malicious: float = 0.2, z: float = 0.0, omniscient: bool = False) -> None:
        super().__init__(malicious, omniscient)
        self.z = require_number("z", z, 0, math.inf)

    @property
    def does(self) -> str:
        return f"send mean - z deviation, z {f'= {self.z:g}' if self.z else 'by the paper'}, {self.knowing}"

    def warnings(self, clients: int) -> Iterator[str]:
        """Of few clients the paper's z is 0, or less."""
        yield from super().warnings(clients)
        asked = round(clients * len(self.cids) / self.clients) if self.clients else 0
        if self.cids and not self.z and (z := z_max(clients, asked)) < LEAST_Z:
            yield f"alie with {asked} of {clients} clients has z = {z:.2g}: a lie that is hardly one; z=1 is one"

    def lie(self, known: Sequence[Update], asked: Round) -> Update:
        """mean - z deviation."""
        z = self.z or z_max(asked.clients, asked.malicious)
        mean, deviation = mean_of(known), deviation_of(known)
        return {name: mean[name] - z * deviation[name] for name in mean}


def z_max(clients: int, malicious: int) -> float:
    """How many standard deviations a lie of `malicious` of `clients` may be from the mean."""
    honest = clients - malicious
    supporters = max(1, math.floor(clients / 2 + 1) - malicious)
    share = (honest - supporters) / honest if honest else 0.0
    return NormalDist().inv_cdf(float(np.clip(share, 1e-9, 1 - 1e-9)))
