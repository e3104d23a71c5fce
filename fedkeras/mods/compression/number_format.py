"""One array in fewer bits a number, and back: float16 and bfloat16 as in split learning, int8 with a scale an array.

Alistarh, Grubic, Li, Tomioka, Vojnovic: QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding,
NIPS 2017, arXiv:1610.02132 (rounding by chance, so that the expected value is the number itself). Here the levels are
even between -127 and 127 steps, and the step is the largest number of the array over 127:

    step = max |x| / 127        q = floor(x / step + r),  r from [0, 1)        E[q step] = x

Without a source of chance the nearest level is taken: half a step of error at most, and always the same.
"""

import numpy as np

from fedkeras.learning.quantisation import Packed, from_wire, to_wire

LEVELS = 127
LARGEST = float(np.finfo(np.float32).max)


def pack(array: np.ndarray, number_format: str, rng: np.random.Generator | None = None) -> Packed:
    """A float32 array in one of `forms.FORMATS`; for int8 `rng` rounds by chance, None to the nearest level.

    Raises ValueError for NaN or infinity, and for numbers that the format does not reach.
    """
    if number_format != "int8":
        return to_wire(array, number_format)
    top = max(float(array.max()), -float(array.min())) if array.size else 0.0  # NaN if there is any
    if not np.isfinite(top):
        raise ValueError("there are NaN or infinite numbers to send: the training has diverged; lower --learning-rate")
    step = top / LEVELS
    if not step:
        return Packed(np.zeros(array.shape, np.int8), "int8", 1.0)
    levels = np.divide(array, step, dtype=np.float64)
    # 24 bits of chance: added to a whole number they never reach the next one
    levels = np.rint(levels) if rng is None else np.floor(levels + rng.random(array.shape, np.float32))
    return Packed(np.clip(levels, -LEVELS, LEVELS).astype(np.int8), "int8", step)


def unpack(packed: Packed) -> np.ndarray:
    """The array as float32. Raises ValueError for a scale or data that `pack` does not make."""
    data, number_format, scale = packed
    if type(scale) is not float or not 0 < scale <= LARGEST:
        raise ValueError(f"an array came with the scale {scale}")
    with np.errstate(over="ignore", invalid="ignore"):  # infinite is what is looked for
        if number_format != "int8":
            return from_wire(packed)
        if data.dtype != np.int8:
            raise ValueError(f"an array of {data.dtype} came as 'int8'")
        array = np.multiply(data, scale, dtype=np.float64).astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError("infinite numbers have arrived")
    return array
