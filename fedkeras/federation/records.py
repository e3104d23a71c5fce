"""Between Flower's records and numpy (an Array is bytes in NumPy's .npy format), without needless copies."""

import functools
import io
import math
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

NUMPY = "numpy.ndarray"

Record = TypeVar("Record", ArrayRecord, MetricRecord, ConfigRecord)


def of_kind(content: RecordDict, kind: type[Record]) -> dict[str, Record]:
    """The records of one kind by name, without Flower's `content.array_records` and its like.

    Those refer to themselves and to the content, so that every reply looked at with them stays in memory until Python's
    garbage collector comes round, which counts objects and not megabytes.
    """
    return {name: record for name, record in content.items() if isinstance(record, kind)}


def view(array: Array) -> np.ndarray:
    """The array's numbers as a read-only view of its bytes.

    Raises ValueError if the bytes are no .npy data, hold Python objects, or do not have the stated shape and dtype.
    """
    if array.stype != NUMPY:
        raise ValueError(f"serialised as '{array.stype}', not as {NUMPY}")
    start, shape, fortran_order, dtype, named = _header_of(array.data)
    if dtype.hasobject:
        raise ValueError("holds Python objects")
    if tuple(array.shape) != shape or array.dtype != named:
        raise ValueError(f"says {array.dtype}{list(array.shape)} and holds {named}{list(shape)}")
    count = math.prod(shape)
    if len(array.data) - start != count * dtype.itemsize:
        raise ValueError(f"has {len(array.data) - start} bytes, not {count * dtype.itemsize}")
    flat = np.frombuffer(array.data, dtype, count, start)
    return flat.reshape(shape, order="F" if fortran_order else "C")


class _Header(NamedTuple):
    """Of .npy data: where the numbers begin, and what they are; `named` is the dtype as Flower writes it."""

    start: int
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype
    named: str


KEPT_HEADER_BYTES, KEPT_HEADERS = 256, 4096
"""Headers that are parsed once and not for each of a round's replies: an array's is 128 bytes, and numpy reads it by
Python's own parser, which takes longer than all else that is done with a small array."""


def _header_of(data: bytes) -> _Header:
    """The header of .npy data. Raises ValueError."""
    wide = data[6:7] != b"\x01"  # the length takes 4 bytes, not 2
    end = 12 + int.from_bytes(data[8:12], "little") if wide else 10 + int.from_bytes(data[8:10], "little")
    return _kept_header(data[:end]) if end <= KEPT_HEADER_BYTES else _parsed_header(data[:end])


def _parsed_header(head: bytes) -> _Header:
    stream = io.BytesIO(head)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read_header(stream)
    except Exception as error:  # on crafted bytes numpy's parser also raises TokenError, IndexError, ...
        raise ValueError(f"has no .npy header: {str(error)[:100]}") from error
    return _Header(stream.tell(), shape, fortran_order, dtype, str(dtype))


_kept_header = functools.lru_cache(maxsize=KEPT_HEADERS)(_parsed_header)


def views(record: ArrayRecord) -> dict[str, np.ndarray]:
    """All arrays of a record as read-only views, by name."""
    return {name: view(array) for name, array in record.items()}


def payload(content: RecordDict) -> int:
    """Bytes of all arrays in a message's content, each with its .npy header of 128 bytes or so."""
    return sum(len(array.data) for arrays in of_kind(content, ArrayRecord).values() for array in arrays.values())


def record(arrays: Mapping[str, np.ndarray]) -> ArrayRecord:
    """Named numpy arrays as an ArrayRecord. Shapes and dtypes are kept."""
    return ArrayRecord({name: _npy(np.asarray(array)) for name, array in arrays.items()})


def _npy(array: np.ndarray) -> Array:
    """What `Array(array)` gives, with one copy of the numbers where numpy.save makes three."""
    if array.dtype.hasobject or not array.flags.c_contiguous:
        return Array(array)
    header, named = _written_header(array.dtype, array.shape)
    data = b"".join([header, memoryview(array.reshape(-1)).cast("B") if array.size else b""])
    return Array(named, tuple(array.shape), NUMPY, data)


@functools.lru_cache(maxsize=KEPT_HEADERS)
def _written_header(dtype: np.dtype, shape: tuple[int, ...]) -> tuple[bytes, str]:
    """The .npy header of a C-contiguous array, and its dtype's name."""
    header, descr = io.BytesIO(), np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    return header.getvalue(), str(dtype)
