"""What the three modes of split learning share: a round's parties, its start, and the mean of what comes back."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from fedkeras.config import Config
from fedkeras.federation.aggregation import Mean
from fedkeras.federation.conversation import Conversation
from fedkeras.federation.records import views
from fedkeras.workflows.split.client_pass import START, WEIGHTS, BodyServer, ClientPass, weights_for_clients


@dataclass(frozen=True)
class SplitRound:
    """Who takes part in a round, and how. `cids` ascend; `arrays` are the whole model's weights as it begins."""

    server_round: int
    cids: list[int]
    arrays: ArrayRecord
    talk: Conversation
    middle: BodyServer
    config: Config
    tell: Mapping
    in_flight: int


def begin(parties: SplitRound, cids: Iterable[int], ends: ArrayRecord, replica: bool = False) -> dict[int, ClientPass]:
    """Send the clients their weights of M1 and M3 and return the lanes of those that have begun, in the order of cid.

    A client process that serves several of them begins once, for they begin alike: it knows by the epoch's name.
    """
    cids, talk = list(cids), parties.talk
    tell = {**parties.tell, "epoch": uuid.uuid4().hex}
    config = {**tell, "server-round": parties.server_round, "in-flight": parties.in_flight}
    talk.send(cids, START, "start", RecordDict({WEIGHTS: ends, "config": ConfigRecord(config)}))
    lanes = {}
    for cid in cids:
        lanes[cid] = ClientPass(cid, talk, parties.middle, parties.config, tell, parties.in_flight)
        if message := talk.take(cid, "start"):
            lanes[cid].started(message, ends, parties.server_round, replica)
    return {cid: lane for cid, lane in lanes.items() if lane.next}


def ends_of(parties: SplitRound) -> ArrayRecord:
    """The weights of M1 and M3 as the round begins."""
    return weights_for_clients(parties.arrays, parties.middle.names)


def mean_of_ends(lanes: Iterable[ClientPass]) -> dict[str, np.ndarray]:
    """The example-weighted mean of the M1 and M3 of those that are done, in the order given: that of cid."""
    mean = Mean()
    for lane in lanes:
        mean.add(views(lane.weights), lane.examples)
    return mean.result()
