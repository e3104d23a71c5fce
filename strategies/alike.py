"""One client's odd records must not end a round: Flower's aggregations compare them, and give all up if they differ."""

from collections import Counter
from collections.abc import Iterable

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict

from strategies.arrays import of_kind


def alike(replies: list[Message], like: ArrayRecord | None = None) -> list[Message]:
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
            records[arrays_name] = ArrayRecord({key: given[key] for key in like})
        records[metrics_name] = MetricRecord({key: table[key] for key in shared})
        result.append(Message(RecordDict(records), metadata=reply.metadata))
    return result


def _only(content: RecordDict, kind: type) -> tuple:
    return next(iter(of_kind(content, kind).items()))


def _most_common(names: Iterable[str]) -> str:
    counted = Counter(names).most_common(1)
    return counted[0][0] if counted else ""
