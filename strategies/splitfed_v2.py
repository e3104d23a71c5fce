"""SplitFedV2: split learning in parallel, all clients on one M2.

C. Thapa, P. C. M. Arachchige, S. Camtepe, L. Sun, "SplitFed: When Federated Learning Meets Split Learning", AAAI 2022,
arXiv:2004.12088, section "SplitFedV2"; U-shaped here, so that the labels stay with the clients too.

All clients begin with the same M1 and M3; the server has one M2, which every client's batches update one after the
other. At the end of the round M1 and M3 are averaged, each client counted by its number of examples. The paper draws a
random order of clients; here the order is fixed, so that a seed gives one result: with k batches in flight and * for
all clients in the order of cid,

    F(0,*), ..., F(k-1,*), then for b = 0, 1, ...: U(b,*), F(b+k,*)

(F and U as in split_lane.py). A message that comes before its turn waits; a client without a batch b, or that has
failed, is passed over. So clients compute while the server works for the others, and M2's gradients are late by at most
k batches of each client. What a client that fails did to M2 until then stays.
"""

import numpy as np

from fedkeras.workflows.split.client_pass import ClientPass, schedule
from fedkeras.workflows.split.split_round import SplitRound, begin, ends_of, mean_of_ends


def train(parties: SplitRound) -> tuple[dict[int, ClientPass], dict[str, np.ndarray]]:
    """All clients at once. Returns the lanes of those that came to their end, by cid, and the whole model's weights."""
    lanes = begin(parties, parties.cids, ends_of(parties))
    longest = max((lane.batches for lane in lanes.values()), default=0)
    for step in schedule(longest, parties.in_flight):
        if all(lane.next is None or lane.next.kind == "END" for lane in lanes.values()):
            break  # whoever said it had more examples has failed
        for lane in lanes.values():
            if lane.next == step:
                lane.work()
    for lane in lanes.values():
        if lane.next:
            lane.work()
    done = {cid: lane for cid, lane in lanes.items() if lane.done}
    return done, {**mean_of_ends(done.values()), **parties.middle.weights()}
