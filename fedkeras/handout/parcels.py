"""What is in the hand-out's messages: small values in a config record, arrays beside it; and checks of answers."""

from collections.abc import Mapping

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from strategies.arrays import of_kind, record, views
from strategies.dialogue import Ask, Refused

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
        raise Refused(f"sent an array that cannot be read: {error}") from error


def value_of(content: RecordDict, name: str, kind: type) -> object:
    """A value of a client's answer. Raises Refused unless it is of this kind; counts are 0 to MAX_ROWS."""
    table = next(iter(of_kind(content, ConfigRecord).values()), {})
    found = table.get(name)
    if type(found) is not kind or (kind is int and not 0 <= found <= MAX_ROWS):
        raise Refused(f"sent {str(found)[:60]!r} for '{name}'")
    return found
