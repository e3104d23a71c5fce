"""A client's update as one vector, and the mean of the vectors as named arrays.

What is summed is the change of each number, trained or not: it is small, so that a clip range cuts little off, and who
has not changed a number adds nothing to it. Whole numbers (a counter) must not change: a mean of theirs is none.
"""

from collections.abc import Mapping

import numpy as np

from fedkeras.federation.aggregation import as_dtype

Arrays = Mapping[str, np.ndarray]


def size(arrays: Arrays) -> int:
    """Numbers in all arrays together."""
    return sum(array.size for array in arrays.values())


def flattened(arrays: Arrays, origin: Arrays) -> np.ndarray:
    """arrays - origin as float32, in origin's order.

    Raises ValueError for other arrays, for whole numbers that have changed, and for what is not finite.
    """
    if arrays.keys() != origin.keys():
        raise ValueError("training gave other arrays than it was given")
    update, place = np.empty(size(origin), np.float32), 0
    for name, before in origin.items():
        after = arrays[name]
        if after.shape != before.shape or after.dtype != before.dtype:
            raise ValueError(f"training made '{name}' {after.dtype}{list(after.shape)}")
        part, place = update[place : place + before.size].reshape(before.shape), place + before.size
        if before.dtype.kind not in "biu":
            # Without an array in between: of float32 the difference is rounded once, as it would be of float64
            np.subtract(after, before, out=part, casting="same_kind")
        elif np.array_equal(after, before):
            part[...] = 0
        else:
            raise ValueError(
                f"'{name}' holds whole numbers and training changes them, of which a secure sum has no mean"
            )
    if not np.isfinite(update).all():
        raise ValueError("training gave numbers that are not finite (a smaller learning rate may help)")
    return update


def moved(origin: Arrays, mean: np.ndarray) -> dict[str, np.ndarray]:
    """origin + mean by name, in origin's shapes and dtypes; `mean` is float64, as long as all of them."""
    result, place = {}, 0
    for name, before in origin.items():
        change = mean[place : place + before.size].reshape(before.shape)
        exact = before.dtype.kind in "biu"
        result[name] = before if exact else as_dtype(before + change, before.dtype)
        place += before.size
    return result
