"""What a server and a client say to each other while model and data are provisioned; and checks of a client's answers.

A message holds small values in a config record and arrays beside it. Rows of data are compressed where that makes them
arrive sooner, which is measured on rows that travelled as they are.
"""

import time
import zlib
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from fedkeras.federation.dispatcher import SPARE_BYTES, Ask, ClientRefused
from fedkeras.federation.records import of_kind, record, views

MAX_ROWS = 10**12

DESCRIPTION_BYTES = 64 << 20
"""What a client's description may have in arrays: statistics of each feature, in as many parts as there are folds."""

Value = bool | int | float | str | list[int]
"""A small value of a message."""

ReportState = Callable[[int, str], None]
"""Called with a cid and, in words, what that client is doing: a progress table shows it."""

T = TypeVar("T", bound=Value)


def ask(
    action: str,
    arrays: Mapping[str, np.ndarray] | None = None,
    wait: bool = True,
    reply_limit: int = SPARE_BYTES,
    **values: Value,
) -> Ask:
    """A message to a client, which client.py answers by its handler of the query `action`.

    The answer may have `reply_limit` bytes of arrays.
    """
    return Ask(f"query.{action}", _content(arrays, values), wait, reply_limit)


def reply(arrays: Mapping[str, np.ndarray] | None = None, **values: Value) -> RecordDict:
    """A client's answer."""
    return _content(arrays, values)


def arrays_of(content: RecordDict) -> dict[str, np.ndarray]:
    """The message's arrays as read-only views; raises ValueError for bytes that are none."""
    return views(next(iter(of_kind(content, ArrayRecord).values()), ArrayRecord()))


def arrays_of_answer(content: RecordDict) -> dict[str, np.ndarray]:
    """The same for a client's answer: what is wrong with it is that client's failure. Raises ClientRefused."""
    try:
        return arrays_of(content)
    except ValueError as error:
        raise ClientRefused(f"sent an array that cannot be read: {error}") from error


def value_of(content: RecordDict, name: str, kind: type[T]) -> T:
    """A value of a client's answer. Raises ClientRefused unless it is of this kind; counts are 0 to MAX_ROWS."""
    table = next(iter(of_kind(content, ConfigRecord).values()), {})
    found = table.get(name)
    if type(found) is not kind or (kind is int and not 0 <= found <= MAX_ROWS):
        raise ClientRefused(f"sent {str(found)[:60]!r} for '{name}'")
    return found


def _content(arrays: Mapping[str, np.ndarray] | None, values: Mapping[str, Value]) -> RecordDict:
    content = RecordDict({"config": ConfigRecord(dict(values))})
    if arrays is not None:
        content["arrays"] = record(arrays)
    return content


LEVEL = 1
SAMPLE = 1 << 18
WORTH = 0.8
"""Compressed, rows must take less than this share of the time."""


def compression_pays(rows: Mapping[str, np.ndarray], sent_in: float, clients: int = 1) -> bool:
    """True if these rows, which took `sent_in` seconds as they are, would have arrived sooner compressed.

    The network is shared by as many `clients`, and so is the one thread that compresses for all of them.
    """
    sample = b"".join(array.tobytes()[:SAMPLE] for array in rows.values())
    size = sum(array.nbytes for array in rows.values())
    if not sample:
        return False
    started = time.perf_counter()
    packed = zlib.compress(sample, LEVEL)
    seconds = (clients + 0.3) * (time.perf_counter() - started) * size / len(sample)  # 0.3: for the other side
    return seconds + sent_in * len(packed) / len(sample) < WORTH * sent_in


def compress(rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each array's bytes compressed, as uint8."""
    return {name: np.frombuffer(zlib.compress(array.tobytes(), LEVEL), np.uint8) for name, array in rows.items()}


def decompress(packed: np.ndarray, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """The array of this dtype and shape whose bytes `packed` (uint8) are, compressed.

    Raises ValueError if it is not what it should be, without ever making more bytes than that.
    """
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    engine = zlib.decompressobj()
    try:
        data = engine.decompress(packed.tobytes(), size + 1)
    except zlib.error as error:
        raise ValueError(f"compressed rows are damaged: {error}") from error
    if len(data) != size:
        raise ValueError(f"compressed rows have other than their {size} bytes")
    return np.frombuffer(data, dtype).reshape(shape)
