"""Split learning with clients that take turns.

O. Gupta, R. Raskar, "Distributed learning of deep neural network over multiple agents", 2018, arXiv:1810.06060,
algorithm 2; P. Vepakomma, O. Gupta, T. Swedish, R. Raskar, "Split learning for health: Distributed deep learning
without sharing raw patient data", 2018, arXiv:1812.00564, whose U-shaped configuration keeps the labels at the client.

In the order of cid each client trains head and tail, with the server's body, on all its examples; its head and tail
then go to the next client. Here they go through the server ("centralized mode" of the first paper), a turn is a
client's local epochs, and the body's optimizer lasts from turn to turn, while a client's is new in its turn. A client
that fails leaves no trace: the head, the body and the tail go back to what they were before its turn.
"""

import numpy as np

from fedkeras.federation.records import views
from fedkeras.workflows.split.client_pass import ClientPass
from fedkeras.workflows.split.split_round import SplitRound, begin, head_and_tail_weights


def train(split_round: SplitRound) -> tuple[dict[int, ClientPass], dict[str, np.ndarray]]:
    """Every client's turn. Returns the passes that came to their end, by cid, and the whole model's weights."""
    body, weights, done = split_round.body, head_and_tail_weights(split_round), {}
    for cid in split_round.cids:
        before = body.state()
        passes = begin(split_round, [cid], weights)
        while cid in passes and passes[cid].next:
            passes[cid].work()
        if cid in passes and passes[cid].done:
            done[cid] = passes[cid]
            weights = done[cid].weights
        else:
            body.restore(before)
    return done, {**views(weights), **body.weights()}
