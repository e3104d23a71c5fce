"""Which array of a model travels in which form.

Compressed are the arrays that are trained and large. Exact stay whole numbers, what is not trained (frozen layers, and
BatchNormalization's statistics, in which an error of one step may mean a negative variance), arrays of another dtype
than float32, and small ones: biases, the scales of normalising layers. These are few bytes, and every output depends
on each of their numbers.
"""

import math
from collections.abc import Collection

from flwr.app import ArrayRecord

EXACT = "exact"
"""As it is: the array itself, and not how it has moved."""
FORMATS = ("float32", "float16", "bfloat16", "int8")
"""What a number may be on the way. float32 stands for no compression, or beside `topk` for exact numbers."""
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}
"""Bytes of one number."""
SMALL = 256
"""Numbers of an array; with fewer it stays exact."""


def forms_of(arrays: ArrayRecord, trainable: Collection[str], number_format: str) -> list[str]:
    """EXACT or `number_format` for each array, in the record's order."""
    return [
        number_format if is_compressed(array.dtype, array.shape) and name in trainable else EXACT
        for name, array in arrays.items()
    ]


def is_compressed(dtype: str, shape: Collection[int]) -> bool:
    """Whether an array of this kind is worth it, if it is trained."""
    return dtype == "float32" and math.prod(shape) >= SMALL
