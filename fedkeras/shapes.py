"""Whether numbers of one shape go into another, each into the place that is meant."""

import math


def same_order(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """True if they are as many, and one shape is flat, or the two differ in axes of size 1 alone.

    (3, 8, 8) has as many numbers as (8, 8, 3), and other ones in each place.
    """
    if math.prod(shape) != math.prod(other):
        return False
    own, others = ([size for size in sizes if size != 1] for sizes in (shape, other))
    return own == others or min(len(shape), len(other)) < 2
