"""SplitFedV2: split learning in parallel, all clients on one body.

C. Thapa, P. C. M. Arachchige, S. Camtepe, L. Sun, "SplitFed: When Federated Learning Meets Split Learning", AAAI 2022,
arXiv:2004.12088, section "SplitFedV2"; U-shaped here, so that the labels stay with the clients too.

All clients begin with the same head and tail; the server has one body, which every client's batches update one after
the other. At the end of the round head and tail are averaged, each client counted by its number of examples. The paper
draws a random order of clients; here the order is fixed, so that a seed gives one result: with k batches in flight and
* for all clients in the order of cid,

    F(0,*), ..., F(k-1,*), then for b = 0, 1, ...: U(b,*), F(b+k,*)

(F and U as in workflows/split/client_pass.py). A message that comes before its turn waits; a client without a batch b,
or that has failed, is passed over. So clients compute while the server works for the others, and the body's gradients
are late by at most k batches of each client. What a client that fails did to the body until then stays.
"""

import numpy as np

from fedkeras.workflows.split.client_pass import ClientPass, schedule
from fedkeras.workflows.split.split_round import SplitRound, begin, head_and_tail_weights, mean_of_heads_and_tails


def train(split_round: SplitRound) -> tuple[dict[int, ClientPass], dict[str, np.ndarray]]:
    """All clients at once. Returns the passes that came to their end, by cid, and the whole model's weights."""
    passes = begin(split_round, split_round.cids, head_and_tail_weights(split_round))
    longest = max((client_pass.batches for client_pass in passes.values()), default=0)
    for step in schedule(longest, split_round.in_flight):
        if all(client_pass.next is None or client_pass.next.kind == "END" for client_pass in passes.values()):
            break  # whoever said it had more examples has failed
        for client_pass in passes.values():
            if client_pass.next == step:
                client_pass.work()
    for client_pass in passes.values():
        if client_pass.next:
            client_pass.work()
    done = {cid: client_pass for cid, client_pass in passes.items() if client_pass.done}
    return done, {**mean_of_heads_and_tails(done.values()), **split_round.body.weights()}
