"""Updates that wait for a new version, each as what its client would have sent had it begun from the newest version.

J. Nguyen, K. Malik, H. Zhan, A. Yousefpour, M. Rabbat, M. Malek, D. Huba, "Federated Learning with Buffered
Asynchronous Aggregation", AISTATS 2022, arXiv:2106.06639, algorithm 1. Of K updates, that of client i begun from
version t - tau_i:

    w_{t+1}  =  w_t  +  eta_g sum_i n_i s(tau_i) (w_i - w_{t - tau_i}) / sum_i n_i        s(tau) = 1 / (1 + tau)^a

a is 0.5 in the paper, and n_i is 1 there (`--client-weights uniform`); here it is what every other mean of this house
counts by. The sum is FedAvg's mean of

    u_i  =  w_t  +  eta_g s(tau_i) (w_i - w_{t - tau_i})

so u_i stands in a reply's place, and any strategy that takes means (an optimizer on the server as well) does the rest.
With tau 0 and eta_g 1, u_i is w_i to the bit, and a version is a round of FedAvg.

What no gradient trains (BatchNormalization's statistics, counters) is no sum of updates: added to newer ones, a
variance could fall below zero. There u_i = s(tau_i) w_i + (1 - s(tau_i)) w_t, which lies between the two.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import ArrayRecord, Message, RecordDict

from fedkeras.federation.aggregation import as_dtype
from fedkeras.federation.client_weights import with_weight
from fedkeras.federation.metrics import RowTable
from fedkeras.federation.records import of_kind, record, view
from fedkeras.federation.reply_order import EarlyReplies
from fedkeras.reports.history import BYTES, KEYS, OF_TIME, UPDATES

STALENESS = "staleness"
"""A column of history.csv: how many versions were made while an update was under way, the mean of a line's updates."""
SUMMED = ("seconds", UPDATES, *BYTES, *OF_TIME)
"""Columns of which a client's line has the sum over its updates; of others it has their mean."""


def staleness_weight(staleness: int, exponent: float) -> float:
    """s(tau) = 1 / (1 + tau)^a: 1 for an update of the newest version; with a 0 for all."""
    return (1.0 + staleness) ** -exponent


def from_newest(
    update: ArrayRecord,
    base: ArrayRecord,
    newest: ArrayRecord,
    weight: float,
    learning_rate: float,
    trainable: Collection[str],
) -> ArrayRecord:
    """u_i of this module's text: `update` began from `base`, counts for `weight` = s(tau_i), and goes to `newest`.

    All have the same names, shapes and dtypes; sums are taken in float64, and the result has the arrays' own dtypes.
    """
    moved: dict[str, np.ndarray] = {}
    fresh = base is newest and weight * learning_rate == 1.0
    for name, array in update.items():
        if fresh if name in trainable else weight == 1.0:
            continue  # it is what its client sent, to the bit
        new, now = view(array).astype(np.float64), view(newest[name]).astype(np.float64)
        if name in trainable:
            moved_to = now + learning_rate * weight * (new - view(base[name]).astype(np.float64))
        else:
            moved_to = weight * new + (1.0 - weight) * now
        moved[name] = as_dtype(moved_to, np.dtype(array.dtype))
    if not moved:
        return update
    own = record(moved)
    return ArrayRecord({**update, **own})


@dataclass(frozen=True)
class Update:
    """One of the buffer's: whose, its client's how-manieth training it was, and its figures as history.csv has them."""

    cid: int
    number: int
    version: int
    """The version that it began from."""
    staleness: int
    weight: float
    """s(tau)."""
    line: RowTable

    @property
    def key(self) -> tuple[int, int]:
        """By which updates are put in order: whose, and its how-manieth. The order of arrival is no matter in a sum."""
        return self.cid, self.number


class Buffer:
    """The updates of the version in the making. Above a bound their arrays wait in a temporary file."""

    def __init__(self) -> None:
        self.updates: list[Update] = []
        self._replies = EarlyReplies()

    def __len__(self) -> int:
        return len(self.updates)

    def add(self, update: Update, reply: Message, arrays: ArrayRecord) -> None:
        """Keep an update; `arrays` stand in the place of those in its reply."""
        name = next(iter(of_kind(reply.content, ArrayRecord)))
        content = RecordDict({**reply.content, name: arrays})
        self.updates.append(update)
        self._replies.put(update.key, Message(content, metadata=reply.metadata))

    def replies(self, weights: Mapping[int, int]) -> Iterator[Message]:
        """The replies as a strategy is to see them, in the order of cid; once. `weights`: {cid: n_i}."""
        for update in sorted(self.updates, key=lambda each: each.key):
            reply = self._replies.take(update.key)
            assert reply is not None
            yield with_weight(reply, weights[update.cid])

    def counts(self) -> Counter[int]:
        """How many updates each client has in it."""
        return Counter(update.cid for update in self.updates)

    def lines(self) -> dict[int, RowTable]:
        """A line of history.csv for each client, ascending in cid: means and sums over its updates."""
        of_client: dict[int, list[RowTable]] = {}
        for update in sorted(self.updates, key=lambda each: each.key):
            of_client.setdefault(update.cid, []).append(update.line)
        return {cid: _merged(lines) for cid, lines in of_client.items()}


def _merged(lines: list[RowTable]) -> RowTable:
    if len(lines) == 1:
        return lines[0]
    merged: RowTable = dict(lines[0])
    for name in dict.fromkeys(name for line in lines for name in line):
        values = [line[name] for line in lines if name in line]
        if name in (*KEYS, "num_examples") or not all(isinstance(value, int | float) for value in values):
            merged[name] = values[0]
        else:
            total = sum(values)
            merged[name] = total if name in SUMMED else total / len(values)
    return merged
