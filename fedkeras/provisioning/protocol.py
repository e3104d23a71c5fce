"""What is in the hand-out's messages: small values in a config record, arrays beside it; and checks of answers.

Slices are compressed where that makes them arrive sooner: measured on one that travels as it is.
"""

import time
import zlib
from collections.abc import Mapping

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from fedkeras.federation.dispatcher import Ask, ClientRefused
from fedkeras.federation.records import of_kind, record, views

MAX_ROWS = 10**12


def ask(action: str, tell: Mapping, arrays: Mapping[str, np.ndarray] | None = None, wait: bool = True, **more) -> Ask:
    """A question to a client; `tell` is what goes into each message of the run."""
    content = RecordDict({"config": ConfigRecord({**tell, **more})})
    if arrays is not None:
        content["arrays"] = record(arrays)
    return Ask(f"query.{action}", content, wait)


def reply(arrays: Mapping[str, np.ndarray] | None = None, **values) -> RecordDict:
    """A client's answer."""
    content = RecordDict({"config": ConfigRecord(values)})
    if arrays is not None:
        content["arrays"] = record(arrays)
    return content


def arrays_of(content: RecordDict) -> dict[str, np.ndarray]:
    """The message's arrays as read-only views; raises ValueError for bytes that are none."""
    return views(next(iter(of_kind(content, ArrayRecord).values()), ArrayRecord()))


def arrays_from(content: RecordDict) -> dict[str, np.ndarray]:
    """The same for a client's answer: what is wrong with it is that client's failure."""
    try:
        return arrays_of(content)
    except ValueError as error:
        raise ClientRefused(f"sent an array that cannot be read: {error}") from error


def value_of(content: RecordDict, name: str, kind: type) -> object:
    """A value of a client's answer. Raises Refused unless it is of this kind; counts are 0 to MAX_ROWS."""
    table = next(iter(of_kind(content, ConfigRecord).values()), {})
    found = table.get(name)
    if type(found) is not kind or (kind is int and not 0 <= found <= MAX_ROWS):
        raise ClientRefused(f"sent {str(found)[:60]!r} for '{name}'")
    return found


LEVEL = 1
SAMPLE = 1 << 18
WORTH = 0.8
"""Compressed, a slice must take less than this share of the time."""


def pays(rows: Mapping[str, np.ndarray], sent_in: float, clients: int = 1) -> bool:
    """True if these rows, which took `sent_in` seconds as they are, would have arrived sooner compressed.

    The line is shared by as many `clients`, and so is the one thread that compresses for all of them.
    """
    sample = b"".join(array.tobytes()[:SAMPLE] for array in rows.values())
    size = sum(array.nbytes for array in rows.values())
    if not sample:
        return False
    started = time.perf_counter()
    packed = zlib.compress(sample, LEVEL)
    seconds = (clients + 0.3) * (time.perf_counter() - started) * size / len(sample)  # 0.3: for the other side
    return seconds + sent_in * len(packed) / len(sample) < WORTH * sent_in


def pack(rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each array's bytes compressed, as uint8."""
    return {name: np.frombuffer(zlib.compress(array.tobytes(), LEVEL), np.uint8) for name, array in rows.items()}


def unpack(packed: np.ndarray, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse. Raises ValueError if it is not what it should be, without ever making more bytes than that."""
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    engine = zlib.decompressobj()
    try:
        data = engine.decompress(packed.tobytes(), size + 1)
    except zlib.error as error:
        raise ValueError(f"compressed rows are damaged: {error}") from error
    if len(data) != size:
        raise ValueError(f"compressed rows have other than their {size} bytes")
    return np.frombuffer(data, dtype).reshape(shape)
