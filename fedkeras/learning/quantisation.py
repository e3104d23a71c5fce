"""Activations and gradients in fewer bits for the way.

float16 keeps 11 bits of a number and bfloat16 8. float16 ends at 65504, and below 0.00006 it loses bits, where many a
gradient of one activation lies: so an array is first scaled by a power of two, which costs no bits, to fit.
"""

from typing import NamedTuple

import ml_dtypes
import numpy as np

WIRE_DTYPES = ("float32", "float16", "bfloat16")


class Packed(NamedTuple):
    """An array for the way: `data` times `scale` is the array. bfloat16, which numpy's files do not know, is uint16."""

    data: np.ndarray
    dtype: str
    scale: float


def to_wire(array: np.ndarray, dtype: str) -> Packed:
    """Pack a float array of any shape in one of WIRE_DTYPES.

    Raises ValueError for NaN or infinity, which is what a diverged training sends, and for an unknown dtype.
    """
    if dtype not in WIRE_DTYPES:
        raise ValueError(f"the wire takes {', '.join(WIRE_DTYPES)}, not '{dtype}'")
    array = np.ascontiguousarray(array, "float32")
    top = max(float(array.max()), -float(array.min())) if array.size else 0.0  # NaN if there is any
    if not np.isfinite(top):
        raise ValueError("there are NaN or infinite numbers to send: the training has diverged; lower --learning-rate")
    if dtype == "float32":
        return Packed(array, dtype, 1.0)
    if dtype == "bfloat16":
        data = array.astype(ml_dtypes.bfloat16)
        if not top < 3.3e38:  # the largest of float32 round up to infinity
            raise ValueError("there are numbers beyond bfloat16's 3.39e38: send float32")
        return Packed(data.view(np.uint16), dtype, 1.0)
    # To below 2**14: float16's largest is just under 2**16. The exponent is bound so that the scale is a float32 too.
    scale = 2.0 ** float(np.clip(np.frexp(top)[1] - 14, -100, 120)) if top else 1.0
    return Packed((array * np.float32(1.0 / scale)).astype(np.float16), dtype, scale)


def from_wire(packed: Packed) -> np.ndarray:
    """Unpack to float32. Raises ValueError for data of another dtype than stated, and for NaN or infinity."""
    data, dtype, scale = packed
    stored = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}.get(dtype)
    if stored is None or data.dtype != stored or not np.isfinite(scale):
        raise ValueError(f"an array of {data.dtype} came as '{dtype}' with scale {scale}")
    if dtype == "bfloat16":
        data = data.view(ml_dtypes.bfloat16)
    array = np.asarray(data, np.float32)
    if scale != 1.0:
        array = array * np.float32(scale)
    if array.size and not (np.isfinite(array.max()) and np.isfinite(array.min())):
        raise ValueError("NaN or infinite numbers have arrived")
    return array
