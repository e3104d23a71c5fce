"""Between Flower's records and numpy (an Array is bytes in NumPy's .npy format), without needless copies."""

import io
from collections.abc import Mapping
from typing import TypeVar

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
    stream = io.BytesIO(array.data)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read_header(stream)
    except Exception as error:  # on crafted bytes numpy's parser also raises TokenError, IndexError, ...
        raise ValueError(f"has no .npy header: {str(error)[:100]}") from error
    if dtype.hasobject:
        raise ValueError("holds Python objects")
    if tuple(array.shape) != shape or array.dtype != str(dtype):
        raise ValueError(f"says {array.dtype}{list(array.shape)} and holds {dtype}{list(shape)}")
    count = int(np.prod(shape, dtype=np.int64))
    if len(array.data) - stream.tell() != count * dtype.itemsize:
        raise ValueError(f"has {len(array.data) - stream.tell()} bytes, not {count * dtype.itemsize}")
    flat = np.frombuffer(array.data, dtype, count, stream.tell())
    return flat.reshape(shape, order="F" if fortran_order else "C")


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
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    data = b"".join([header.getvalue(), memoryview(array.reshape(-1)).cast("B") if array.size else b""])
    return Array(str(array.dtype), tuple(array.shape), NUMPY, data)
