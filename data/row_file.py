"""One array written as an .npy file row block by row block, for data that should not be in memory twice, or at all."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

BLOCK_BYTES = 1 << 24
"""Bytes of a block of rows: few enough not to matter, enough that Python's share of the time does not."""


def write_rows(path: Path, blocks: Iterator[np.ndarray]) -> None:
    """Write blocks (n, ...) of one dtype, one after another, as the array `path` (.npy).

    Numbers of float64 that float32 holds exactly, all of them, are written as float32. Raises OSError, and ValueError
    where there is no block.
    """
    wide = path.with_suffix(".wide")
    exact = _write(wide, blocks)
    if exact:
        array = np.load(wide, mmap_mode="r")
        _write(path, (np.asarray(block, np.float32) for block in slices(array)))
        wide.unlink()
    else:
        wide.rename(path)


def narrowed(array: np.ndarray) -> np.ndarray:
    """What `write_rows` would have written: float64 as float32 where that loses nothing."""
    return array.astype(np.float32) if _fits(array) else array


def slices(array: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of an array in blocks of some megabytes."""
    step = rows_in_a_block(array.shape[1:], array.dtype)
    return (array[start : start + step] for start in range(0, len(array), step))


def rows_in_a_block(row_shape: tuple[int, ...], dtype: np.dtype) -> int:
    """How many rows of this shape make a block, at least one."""
    return max(1, BLOCK_BYTES // max(1, int(np.prod(row_shape, dtype=np.int64)) * np.dtype(dtype).itemsize))


def _write(path: Path, blocks: Iterator[np.ndarray]) -> bool:
    """Write the file and return whether float32 would do; the number of rows goes into the header at the end."""
    rows, first, exact = 0, None, True
    with path.open("wb") as file:
        for block in blocks:
            if first is None:
                first = block
                _header(file, first, 0)
                start = file.tell()
            file.write(np.ascontiguousarray(block).data)
            rows, exact = rows + len(block), exact and _fits(block)
        if first is None:
            raise ValueError("no rows to write")
        file.seek(0)
        _header(file, first, rows)
        if file.tell() != start:  # numpy leaves room for a growing first axis, and says so
            raise ValueError("the header of the .npy file has changed its length")
    return exact


def _header(file: object, block: np.ndarray, rows: int) -> None:
    descr = np.lib.format.dtype_to_descr(block.dtype)
    shape = (rows, *block.shape[1:])
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})


def _fits(block: np.ndarray) -> bool:
    if block.dtype != np.float64:
        return False
    with np.errstate(over="ignore"):
        return bool(np.array_equal(block.astype(np.float32), block, equal_nan=True))
