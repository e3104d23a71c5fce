"""Which arrays are trained, and what becomes of the others: a strategy is shown the former alone.

An optimizer, of a client's or of the server's, moves what is trainable. BatchNormalization's moving mean and variance,
counters and frozen layers are weights too, and no step along a gradient belongs to them: momentum or Adam's division
on the server make a variance negative. So these arrays are kept from a strategy and averaged as FedAvg averages,
unless the strategy says that its rule `takes_all`, as a median's does.
"""

from collections.abc import Iterable, Iterator, Sequence, Set

import numpy as np
from flwr.app import Array, ArrayRecord, Message, RecordDict

from fedkeras.federation.aggregation import Mean
from fedkeras.federation.messages import num_examples
from fedkeras.federation.records import of_kind, record, view

Trainable = tuple[str, ...]
"""Names of the arrays that are trained, in the order of all arrays."""

VARIANCES = ("variance", "moving_variance", "running_variance", "running_var", "moving_var")
"""What Keras and others call the statistic of a normalising layer that cannot be below zero."""

STATISTICS = ("moving_mean", "moving_variance", "running_mean", "running_variance", "running_var")
"""Names that no trainable array has."""


def trainable_of(arrays: ArrayRecord, names: Iterable[str] | None) -> Trainable:
    """Those of `names` that can be trained: whole numbers cannot.

    None: nobody has said it, and all fractions are taken but those whose names are a statistic's.
    """
    wanted = {name for name in arrays if _role(name) not in STATISTICS} if names is None else set(names)
    return tuple(name for name, array in arrays.items() if name in wanted and _is_fraction(array))


def statistics_among(names: Iterable[str], trainable: Trainable) -> list[str]:
    """Those that training changes though no gradient does: a normalising layer's statistics."""
    return [name for name in names if name not in trainable and _role(name) in STATISTICS]


def withheld(arrays: Iterable[str], trainable: Trainable) -> Set[str]:
    """The arrays that a strategy is not shown; of a model that trains nothing, none."""
    return set(arrays) - set(trainable) if trainable else set()


def complete(messages: Sequence[Message], arrays: ArrayRecord, kept: Set[str]) -> list[Message]:
    """Messages made by a strategy that was not shown the arrays in `kept`, with these put in again.

    What is one content stays one, so that a runtime can serialise it once. A message whose arrays are none of `arrays`,
    or that has none, stays as it is.
    """
    made: dict[int, RecordDict] = {}
    for message in messages:
        if id(message.content) not in made:
            made[id(message.content)] = _completed(message.content, arrays, kept)
    return [
        message
        if (content := made[id(message.content)]) is message.content
        else Message(content, metadata=message.metadata)
        for message in messages
    ]


class Shown:
    """Replies without the arrays in `kept`, whose mean over all replies, weighted by examples, is taken meanwhile."""

    def __init__(self, replies: Iterable[Message], kept: Set[str]) -> None:
        self._replies, self._kept = iter(replies), kept
        self._mean = Mean()

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        reply = next(self._replies)
        if reply.has_error():
            return reply
        records, rest = dict(reply.content), {}
        for key, arrays in of_kind(reply.content, ArrayRecord).items():
            rest |= {name: view(array) for name, array in arrays.items() if name in self._kept}
            records[key] = ArrayRecord({name: array for name, array in arrays.items() if name not in self._kept})
        self._mean.add(rest, num_examples(reply.content))
        return Message(RecordDict(records), metadata=reply.metadata)

    def mean(self) -> ArrayRecord:
        """The mean of what was not shown, of the replies that a strategy did not look at too; to be called once."""
        for _ in self:
            pass
        return record(self._mean.result())


def variances_below_zero(arrays: ArrayRecord, trainable: Trainable) -> dict[str, float]:
    """The lowest number of each variance that is below zero, by name; a variance is told by its name's last part."""
    lowest = {}
    for name, array in arrays.items():
        known = _role(name) in VARIANCES and name not in trainable and _is_fraction(array)
        if known and (numbers := view(array)).size:
            lowest[name] = float(numbers.min())
    return {name: number for name, number in lowest.items() if number < 0}


def _role(name: str) -> str:
    """The last part of an array's name: `moving_mean` of `004.moving_mean`."""
    return name.rpartition(".")[2].rpartition("/")[2]


def _is_fraction(array: Array) -> bool:
    return np.dtype(array.dtype).kind not in "biu"


def _completed(content: RecordDict, arrays: ArrayRecord, kept: Set[str]) -> RecordDict:
    found = of_kind(content, ArrayRecord)
    key = "arrays" if "arrays" in found else next(iter(found), None)
    if key is None or not any(name in arrays for name in found[key]):
        return content
    sent = found[key]
    whole = {name: sent[name] if name in sent else arrays[name] for name in arrays if name in sent or name in kept}
    return RecordDict({**content, key: ArrayRecord({**whole, **sent})})
