"""What the three modes of split learning share: a round's clients and means, its start, and the average at its end."""

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from fedkeras.config import Config, Value
from fedkeras.federation.aggregation import Mean
from fedkeras.federation.dispatcher import Dispatcher
from fedkeras.federation.records import views
from fedkeras.federation.validation import fault_of_evaluate
from fedkeras.workflows.split.client_pass import BodyServer, ClientPass, limit_of_activations
from fedkeras.workflows.split.protocol import START, WEIGHTS, weights_without_body


@dataclass(frozen=True)
class SplitRound:
    """Who takes part in a round, and how. `cids` ascend; `arrays` are the whole model's weights as it begins."""

    server_round: int
    cids: list[int]
    arrays: ArrayRecord
    dispatcher: Dispatcher
    body: BodyServer
    config: Config
    message_config: Mapping[str, Value]
    in_flight: int
    fault_of_count: Callable[[int, Message], str | None] = lambda cid, message: None
    """What is wrong with the number of examples that a client states."""
    weigh: Callable[[Mapping[int, int]], Mapping[int, int]] = dict
    """What clients count for in means: {cid: examples} -> {cid: weight}."""


def begin(
    split_round: SplitRound, cids: Iterable[int], weights: ArrayRecord, replica: bool = False
) -> dict[int, ClientPass]:
    """Send the clients their weights of head and tail; return the passes of those that have begun, in the order of cid.

    A client process that serves several of them begins once, for they begin alike: it knows by the epoch's name.
    """
    cids, dispatcher = list(cids), split_round.dispatcher
    message_config = {**split_round.message_config, "epoch": uuid.uuid4().hex}
    config = {**message_config, "server-round": split_round.server_round, "in-flight": split_round.in_flight}
    content = RecordDict({WEIGHTS: weights, "config": ConfigRecord(config)})
    examples = split_round.in_flight * split_round.config.batch_size
    dispatcher.send(cids, START, "start", content, limit_of_activations(split_round.body, examples))
    passes = {}
    for cid in cids:
        passes[cid] = ClientPass(
            cid, dispatcher, split_round.body, split_round.config, message_config, split_round.in_flight
        )
        if message := dispatcher.take(cid, "start"):
            if fault := fault_of_evaluate(message) or split_round.fault_of_count(cid, message):
                dispatcher.fail(cid, fault)
            else:
                passes[cid].started(message, weights, split_round.server_round, replica)
    begun = {cid: client_pass for cid, client_pass in passes.items() if client_pass.next}
    settled = split_round.weigh({cid: client_pass.examples for cid, client_pass in begun.items()})
    for cid, client_pass in begun.items():
        client_pass.weight = settled[cid]
    return begun


def head_and_tail_weights(split_round: SplitRound) -> ArrayRecord:
    """The weights of head and tail as the round begins."""
    return weights_without_body(split_round.arrays, split_round.body.names)


def mean_of_heads_and_tails(passes: Iterable[ClientPass]) -> dict[str, np.ndarray]:
    """The weighted mean of the head and tail of those that are done, in the order given: that of cid."""
    mean = Mean()
    for client_pass in passes:
        mean.add(views(client_pass.weights), client_pass.weight)
    return mean.result()
