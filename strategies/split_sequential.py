"""Split learning with clients that take turns.

O. Gupta, R. Raskar, "Distributed learning of deep neural network over multiple agents", 2018, arXiv:1810.06060,
algorithm 2; P. Vepakomma, O. Gupta, T. Swedish, R. Raskar, "Split learning for health: Distributed deep learning
without sharing raw patient data", 2018, arXiv:1812.00564, whose U-shaped configuration keeps the labels at the client.

In the order of cid each client trains M1 and M3, with the server's M2, on all its examples; its M1 and M3 then go to
the next client. Here they go through the server ("centralized mode" of the first paper), a turn is a client's local
epochs, and M2's optimizer lasts from turn to turn, while a client's is new in its turn. A client that fails leaves no
trace: M1, M2 and M3 go back to what they were before its turn.
"""

import numpy as np

from fedkeras.federation.records import views
from fedkeras.workflows.split.client_pass import ClientPass
from fedkeras.workflows.split.split_round import SplitRound, begin, ends_of


def train(parties: SplitRound) -> tuple[dict[int, ClientPass], dict[str, np.ndarray]]:
    """Every client's turn. Returns the lanes of those that came to their end, by cid, and the whole model's weights."""
    middle, ends, done = parties.middle, ends_of(parties), {}
    for cid in parties.cids:
        before = middle.state()
        lanes = begin(parties, [cid], ends)
        while cid in lanes and lanes[cid].next:
            lanes[cid].work()
        if cid in lanes and lanes[cid].done:
            done[cid] = lanes[cid]
            ends = done[cid].weights
        else:
            middle.restore(before)
    return done, {**views(ends), **middle.weights()}
