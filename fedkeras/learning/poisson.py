"""Poisson batches: each example is in a batch by a coin of its own, so that batches differ in size, and may be empty.

Abadi et al., Deep Learning with Differential Privacy, CCS 2016, arXiv:1607.00133, section 3.1 ("lots"). It is what the
accounting supposes; batches of a shuffled epoch would cost more than is counted.
"""

from typing import NamedTuple

import numpy as np

NOBODY = -1
"""Fills the rows of batches that are smaller than the largest."""


class Batches(NamedTuple):
    """Each row of `orders` is an epoch, of `width` places a batch: rows of examples, or NOBODY."""

    orders: np.ndarray
    width: int


def steps_of(examples: int, batch_size: int) -> int:
    """Batches in an epoch: as many as ordinary training has."""
    return -(-examples // batch_size)


def rate_of(examples: int, batch_size: int) -> float:
    """The chance of an example to be in a batch, by which a batch has `batch_size` examples on average."""
    return min(1.0, batch_size / examples)


def draw_batches(rng: np.random.Generator, examples: int, batch_size: int, epochs: int) -> Batches:
    """The batches of a training of so many epochs; orders (epochs, steps * width) int32.

    A coin for each example is the same as a binomial size and that many examples without replacement, and is cheaper.
    """
    steps, rate = steps_of(examples, batch_size), rate_of(examples, batch_size)
    sizes = rng.binomial(examples, rate, epochs * steps)
    width = max(1, int(sizes.max()))
    rows = np.full((epochs * steps, width), NOBODY, np.int32)
    for row, size in zip(rows, sizes, strict=True):
        row[:size] = rng.choice(examples, size, replace=False, shuffle=False)
    return Batches(rows.reshape(epochs, steps * width), width)
