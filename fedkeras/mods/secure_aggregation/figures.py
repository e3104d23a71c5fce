"""Clients' own figures inside the sum: examples, loss, accuracy, as whole numbers in pieces of 16 bits.

A figure is a fixed-point number, and each piece of it is one word of the vector that is masked: the sum of a piece over
fewer than 65,536 clients fits into 32 bits, so that the sum of the figures is exact, however many clients there are.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

PIECE_BITS = 16
PIECES = 8
"""Words of one figure, 128 bits: 2^62 (MOST) times 2^40 examples at 2^-24 (STEP), and a sign."""
LARGEST_PIECE = (1 << PIECE_BITS) - 1
STEP = 2.0**-24
MOST = 2.0**62
WEIGHT, EXAMPLES, CLIPPED = COUNTS = ("#weight", "#examples", "#clipped")
"""What is counted once and not times the weight; no metric can have these names (`readable`)."""
MOST_NAMES, MOST_LETTERS = 100, 100
_OFFSET = 1 << (PIECE_BITS * PIECES - 1)
"""Added to each figure, so that none is below 0."""


def to_words(figures: Mapping[str, float], names: Sequence[str], weight: int) -> np.ndarray:
    """`weight` times each figure of `names` (a count of COUNTS once) as uint32 words, PIECES each.

    Raises ValueError for a figure that is missing, not finite, or beyond MOST.
    """
    words = np.zeros((len(names), PIECES), np.uint32)
    for row, name in zip(words, names, strict=True):
        value = figures.get(name)
        if value is None:
            raise ValueError(f"there is no figure '{name}' to add up")
        if not math.isfinite(value):
            raise ValueError(f"metric '{name}' is not finite")
        if abs(value) > MOST:
            raise ValueError(f"metric '{name}' is beyond {MOST:.2g}, the most that can be added up")
        number = round(value / STEP) * (1 if name in COUNTS else weight) + _OFFSET
        row[:] = [number >> (PIECE_BITS * place) & LARGEST_PIECE for place in range(PIECES)]
    return words.reshape(-1)


def length(names: Sequence[str]) -> int:
    """How many words so many figures are."""
    return len(names) * PIECES


def readable(value: object) -> list[str]:
    """The names of a client's metrics, as it says them. Raises ValueError for anything else."""
    if not isinstance(value, list) or len(value) > MOST_NAMES or len(set(value)) < len(value):
        raise ValueError(f"names no figures, or more than {MOST_NAMES}, or one of them twice")
    for name in value:
        if not isinstance(name, str) or len(name) > MOST_LETTERS or not name.isprintable() or name.startswith("#"):
            raise ValueError("the name of a figure is too long, or no plain text")
    return value


def from_words(words: np.ndarray, names: Sequence[str], clients: int) -> dict[str, float]:
    """The sums over `clients` clients of what `to_words` was given, by name. Raises ValueError for other than sums."""
    if words.shape != (len(names) * PIECES,):
        raise ValueError(f"{words.size} words are not those of {len(names)} figures")
    sums = {}
    for name, row in zip(names, words.reshape(len(names), PIECES).tolist(), strict=True):
        number = sum(piece << (PIECE_BITS * place) for place, piece in enumerate(row)) - clients * _OFFSET
        sums[name] = number * STEP
    return sums
