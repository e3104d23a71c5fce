"""Evaluating by the way of split learning: the examples and the labels of a client's own test set stay with it."""

import uuid
from collections.abc import Callable, Mapping

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from strategies.checks import fault_of_evaluate
from strategies.conversation import Conversation
from strategies.fedavg import examples, metrics_of
from strategies.split_lane import SCORE, TEST, WEIGHTS, Middle

BATCH = 256
"""Examples in a message; a server that knows it can tell how many a batch must have."""


def evaluate_clients(
    talk: Conversation, cids: list[int], ends: ArrayRecord, middle: Middle, tell: Mapping, meanwhile: Callable
) -> dict[int, Mapping[str, float]]:
    """The clients' metrics by cid, in its order; who fails is in talk.failures.

    `meanwhile` is called when the clients have something to do. M2 changes nothing here, so who comes first is served.
    """
    tell = {**tell, "epoch": uuid.uuid4().hex}
    talk.send(cids, TEST, 0, RecordDict({WEIGHTS: ends, "config": ConfigRecord(tell)}))
    meanwhile()
    awaited, sizes, metrics = dict.fromkeys(cids, 0), {}, {}
    while found := talk.next({cid: tag for cid, tag in awaited.items() if cid not in talk.failures}):
        cid, message = found
        try:
            finished = _one_batch(talk, middle, tell, cid, awaited[cid], message, sizes)
        except ValueError as error:
            talk.fail(cid, str(error))
            continue
        awaited[cid] += 1
        if finished:
            del awaited[cid]
            metrics[cid] = metrics_of(message.content)
    return {cid: metrics[cid] for cid in cids if cid in metrics}


def _one_batch(
    talk: Conversation, middle: Middle, tell: Mapping, cid: int, batch: int, message: Message, sizes: dict[int, int]
) -> bool:
    """Answer a client's activations with M2's output; True if these were its metrics, and it has no more."""
    first = batch * BATCH
    if first == 0 or first >= sizes[cid]:
        if fault := fault_of_evaluate(message):
            raise ValueError(fault)
        count = examples(message.content)
        if sizes.setdefault(cid, count) != count:
            raise ValueError(f"had {sizes[cid]} examples and has {count} at the end")
    if first >= sizes[cid]:
        return True
    output, penalty = middle.test(batch, message.content, min(BATCH, sizes[cid] - first))
    output["config"] = ConfigRecord({**tell, "batch": batch, "penalty": penalty})
    talk.send([cid], SCORE, batch + 1, output)
    return False
