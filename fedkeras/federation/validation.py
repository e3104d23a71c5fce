"""Nothing is trusted because it arrived: what is wrong with a reply, in one line, or None.

A train reply's arrays are held against what its client was sent, which need not be what others were sent. What is right
and yet odd, such as a metric that one client alone reports, must not end a round either: Flower's aggregations compare
records and give all up if they differ, so `with_common_records` makes them alike.
"""

import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from fedkeras.errors import one_line
from fedkeras.federation.messages import INITIAL_LOSS, LOCAL_STEPS, LOSS_FIRST, MOST_STEPS, NUM_EXAMPLES
from fedkeras.federation.metrics import column
from fedkeras.federation.records import Record, of_kind, payload, view
from fedkeras.reports.history import BYTES, KEYS, LEFT_OUT, SIMULATED_SECONDS

MAX_EXAMPLES = 10**12
"""More examples than this are a client's claim to the whole average, not a count."""

LARGEST = sys.float_info.max
"""A Python int may be larger than any float, and then has no mean."""


MAX_METRICS = 100
MAX_NAME = 100
"""More metrics, or longer names, are no columns of a history that somebody reads."""

SHARES = (
    "accuracy",
    "binary_accuracy",
    "categorical_accuracy",
    "sparse_categorical_accuracy",
    "top_k_categorical_accuracy",
    "sparse_top_k_categorical_accuracy",
)
"""Keras' own metrics that are shares of examples. Of other names nobody knows the range: a user may give any."""
ROUNDED = 1e-6
"""What float32 may add to a share."""

LOSS_NOT_FINITE = "metric 'loss' is not finite"
"""What is wrong with an evaluation by a model that has diverged."""

HUGE = 1e290
"""Larger numbers than this times MAX_EXAMPLES, summed over a million clients, do not fit into FedAvg's float64 sum."""


def fault_of_train(reply: Message, like: ArrayRecord) -> str | None:
    """What is wrong with a train reply, whose arrays must have the names, shapes and dtypes of `like`."""
    if fault := fault_of_evaluate(reply):
        return fault
    records = list(of_kind(reply.content, ArrayRecord).values())
    if len(records) != 1:
        return f"sent {len(records)} array records, not one"
    return fault_of_arrays(records[0], like)


def fault_of_answer(reply: Message, sent: Message) -> str | None:
    """What is wrong with what a train reply, which is right otherwise, says because it was asked to.

    An initial loss below zero, or none; no steps, or not a number of them.
    """
    asked = next(iter(of_kind(sent.content, ConfigRecord).values()), {})
    if reply.has_error():
        return None
    told = next(iter(of_kind(reply.content, MetricRecord).values()), {})
    if asked.get(LOSS_FIRST):
        said = told.get(INITIAL_LOSS)
        if not (isinstance(said, int | float) and 0 <= said < math.inf):
            return f"was asked for its loss before training, and says {said!r}"
    if MOST_STEPS in asked:
        steps = told.get(LOCAL_STEPS)
        if not (type(steps) is int and 0 < steps <= MAX_EXAMPLES):
            return f"says that it did {steps!r} steps"
    return None


def fault_of_evaluate(reply: Message) -> str | None:
    """What is wrong with an evaluate reply."""
    fault = _fault_of_message(reply)
    return fault and one_line(fault)


def fault_of_arrays(arrays: ArrayRecord, like: ArrayRecord) -> str | None:
    """What is wrong with arrays that should have the names, shapes and dtypes of `like` and finite numbers."""
    if arrays.keys() != like.keys():
        odd = sorted(set(arrays.keys()) ^ set(like.keys()))
        return one_line(f"sent other arrays than it was given: {', '.join(odd[:3])}{' ...' if len(odd) > 3 else ''}")
    for name, array in arrays.items():
        given = like[name]
        if tuple(array.shape) != tuple(given.shape) or array.dtype != given.dtype:
            return one_line(f"'{name}' is {array.dtype}{list(array.shape)}, not {given.dtype}{list(given.shape)}")
        try:
            numbers = view(array)
        except ValueError as error:
            return one_line(f"'{name}' cannot be read: {error}")
        if numbers.dtype.kind in "fc" and not np.isfinite(numbers).all():
            return f"'{name}' has numbers that are not finite (a smaller learning rate may help)"
        if numbers.dtype.kind in "fc" and numbers.dtype.itemsize >= 8 and (np.abs(numbers) > HUGE).any():
            return f"'{name}' has numbers beyond {HUGE:g} (a smaller learning rate may help)"
    return None


def fault_of_size(reply: Message, limit: int | None) -> str | None:
    """What is wrong with a reply whose arrays may have `limit` bytes; None: as many as the grid lets through."""
    if limit is None or reply.has_error() or (size := payload(reply.content)) <= limit:
        return None
    return f"sent {size} bytes of arrays, where {limit} are allowed"


def _fault_of_message(reply: Message) -> str | None:
    if reply.has_error():
        return one_line(reply.error.reason) or f"error {reply.error.code}"
    records = list(of_kind(reply.content, MetricRecord).values())
    if len(records) != 1:
        return f"sent {len(records)} metric records, not one"
    return fault_of_metrics(records[0])


def fault_of_metrics(metrics: Mapping[str, int | float | list[int] | list[float]]) -> str | None:
    """What is wrong with a client's figures, `num-examples` among them; in Flower's spelling."""
    count = metrics.get(NUM_EXAMPLES)
    if type(count) is not int and not (type(count) is float and count.is_integer()):
        return f"says it has {count!r} examples"
    if not 0 < count <= MAX_EXAMPLES:
        return f"says it has {count if abs(count) <= LARGEST else 'far too many'} examples"
    if len(metrics) > MAX_METRICS:
        return f"sent {len(metrics)} metrics, more than {MAX_METRICS}"
    for name, value in metrics.items():
        if len(name) > MAX_NAME or not name.isprintable():
            return f"the name of metric {name[:MAX_NAME]!r} is longer than {MAX_NAME} characters or no plain text"
        if isinstance(value, list):
            return f"metric '{name}' is a list, not a number"
        misspelt = column(name) == column(NUM_EXAMPLES) and name != NUM_EXAMPLES
        if misspelt or column(name) in (*KEYS, *BYTES, SIMULATED_SECONDS, LEFT_OUT):
            return f"metric '{name}' has the name of a column of history.csv"
        if abs(value) > LARGEST or not math.isfinite(value):
            return f"metric '{name}' is not finite"
        if name.removeprefix("val-").removeprefix("cv-") in SHARES and not -ROUNDED <= value <= 1 + ROUNDED:
            return f"metric '{name}' is {value:g}, and a share of the examples is from 0 to 1"
        if name == "seconds" and value < 0:
            return f"metric 'seconds' is {value:g}, and no time is below 0"
    return None


def with_common_records(replies: Sequence[Message], like: ArrayRecord | None = None) -> list[Message]:
    """Checked replies, with the metrics that all of them have, under the record names that most of them use.

    With `like`, the arrays of train replies too, in its order: FedAvgM tells them apart by position. Nobody is left
    out: if other metrics were a failure, a client could make all the others fail by sending one more.
    """
    metrics = [_only(reply.content, MetricRecord) for reply in replies]
    shared = [key for key in (metrics[0][1] if metrics else ()) if all(key in table for _, table in metrics)]
    metrics_name = _most_common(name for name, _ in metrics)
    arrays = [_only(reply.content, ArrayRecord) for reply in replies] if like is not None else []
    arrays_name = _most_common(name for name, _ in arrays)
    result = []
    for index, reply in enumerate(replies):
        records = dict(reply.content)
        name, table = metrics[index]
        records.pop(name)
        if like is not None:
            name, given = arrays[index]
            records.pop(name)
            records[arrays_name] = ArrayRecord({key: given[key] for key in like if key in given})
        records[metrics_name] = MetricRecord({key: table[key] for key in shared})
        result.append(Message(RecordDict(records), metadata=reply.metadata))
    return result


def _only(content: RecordDict, kind: type[Record]) -> tuple[str, Record]:
    return next(iter(of_kind(content, kind).items()))


def _most_common(names: Iterable[str]) -> str:
    counted = Counter(names).most_common(1)
    return counted[0][0] if counted else ""
