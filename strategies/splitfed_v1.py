"""SplitFedV1: split learning in parallel, with a replica of the body for each client.

C. Thapa, P. C. M. Arachchige, S. Camtepe, L. Sun, "SplitFed: When Federated Learning Meets Split Learning", AAAI 2022,
arXiv:2004.12088, algorithm 1; U-shaped here, so that the labels stay with the clients too.

All clients begin with the same head and tail, and each has a body of its own on the server. At the end of the round all
three parts are averaged, each client counted by its number of examples: the same arithmetic as FedAvg's. Replicas do
not know of each other, so whoever's message is there is served next; the averages are taken in the order of cid.
"""

import numpy as np

from fedkeras.federation.aggregation import Mean
from fedkeras.workflows.split.client_pass import ClientPass
from fedkeras.workflows.split.split_round import SplitRound, begin, head_and_tail_weights, mean_of_heads_and_tails


def train(split_round: SplitRound) -> tuple[dict[int, ClientPass], dict[str, np.ndarray]]:
    """All clients at once. Returns the passes that came to their end, by cid, and the whole model's weights."""
    passes = begin(split_round, split_round.cids, head_and_tail_weights(split_round), replica=True)
    for client_pass in passes.values():
        while client_pass.next and client_pass.needs_no_reply:
            client_pass.work()
    while awaited := {cid: client_pass.awaited for cid, client_pass in passes.items() if client_pass.next}:
        failed = split_round.dispatcher.failures
        found = split_round.dispatcher.next({cid: tag for cid, tag in awaited.items() if cid not in failed})
        if found is None:
            break
        passes[found[0]].work_on(found[1])
    done = {cid: client_pass for cid, client_pass in passes.items() if client_pass.done}
    bodies = Mean()
    for cid, client_pass in done.items():
        bodies.add(split_round.body.weights(cid), client_pass.weight)
    return done, {**mean_of_heads_and_tails(done.values()), **bodies.result()}
