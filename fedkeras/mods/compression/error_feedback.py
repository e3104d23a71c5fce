"""A client's half of top-k: what is not sent in this round is added to the next one's update, and nothing is lost.

Seide, Fu, Droppo, Li, Yu: 1-Bit Stochastic Gradient Descent, Interspeech 2014. Stich, Cordonnier, Jaggi: Sparsified SGD
with Memory, NeurIPS 2018, arXiv:1809.07599, algorithm 1. With x the update of this round and e the residual:

    u = x + e        sent = Q(top_k(u))        e <- u - sent

so that the rounding of what is sent, too, is made up for later.
"""

from typing import NamedTuple

import numpy as np

from fedkeras.learning.quantisation import Packed
from fedkeras.mods.compression.number_format import pack, unpack
from fedkeras.mods.compression.sparsification import count_of, gaps_of, largest, spread


class Sparse(NamedTuple):
    """What is sent of an array: its largest numbers, in a number format, and the gaps between their places."""

    values: Packed
    gaps: np.ndarray


def sparsified(
    array: np.ndarray, share: float, number_format: str, rng: np.random.Generator
) -> tuple[Sparse, np.ndarray]:
    """What is sent of `array`, and what is not, in the array's shape. Raises ValueError for what is not finite."""
    flat = array.reshape(-1)
    if not np.isfinite(flat).all():
        raise ValueError("there are NaN or infinite numbers to send: the training has diverged; lower --learning-rate")
    places = largest(flat, count_of(share, flat.size))
    values = pack(flat[places], number_format, rng)
    rest = flat - spread(unpack(values), places, flat.size)
    return Sparse(values, gaps_of(places)), rest.reshape(array.shape)
