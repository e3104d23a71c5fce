"""SplitFedV1: split learning in parallel, with a replica of M2 for each client.

C. Thapa, P. C. M. Arachchige, S. Camtepe, L. Sun, "SplitFed: When Federated Learning Meets Split Learning", AAAI 2022,
arXiv:2004.12088, algorithm 1; U-shaped here, so that the labels stay with the clients too.

All clients begin with the same M1 and M3, and each has an M2 of its own on the server. At the end of the round all
three parts are averaged, each client counted by its number of examples: the same arithmetic as FedAvg's. Replicas do
not know of each other, so whoever's message is there is served next; the averages are taken in the order of cid.
"""

import numpy as np

from fedkeras.federation.aggregation import Mean
from fedkeras.workflows.split.client_pass import ClientPass
from fedkeras.workflows.split.split_round import SplitRound, begin, ends_of, mean_of_ends


def train(parties: SplitRound) -> tuple[dict[int, ClientPass], dict[str, np.ndarray]]:
    """All clients at once. Returns the lanes of those that came to their end, by cid, and the whole model's weights."""
    lanes = begin(parties, parties.cids, ends_of(parties), replica=True)
    for lane in lanes.values():
        while lane.next and lane.needs_no_reply:
            lane.work()
    while awaited := {cid: lane.awaited for cid, lane in lanes.items() if lane.next}:
        found = parties.talk.next({cid: tag for cid, tag in awaited.items() if cid not in parties.talk.failures})
        if found is None:
            break
        lanes[found[0]].work_on(found[1])
    done = {cid: lane for cid, lane in lanes.items() if lane.done}
    middles = Mean()
    for cid, lane in done.items():
        middles.add(parties.middle.weights(cid), lane.examples)
    return done, {**mean_of_ends(done.values()), **middles.result()}
