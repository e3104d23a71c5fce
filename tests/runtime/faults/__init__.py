"""The faults that a run must survive. One function a fault: it takes a Stage and returns a Verdict.

Shared by tests/runtime/test_runtime_faults.py, which plays each once, and benchmarks/faults.py, which prints the table.
"""

from faults import connections, ends, replies, strangers
from faults.stage import Stage, Verdict, play, stage

FAULTS = {
    "client killed in mid-training, started again": ends.client_killed,
    "client stopped past the round time-out, then continued": ends.client_stopped,
    "connection reset while a client trains": connections.cut_while_training,
    "connection cut in mid-message, to the server": connections.cut_in_reply,
    "connection cut in mid-message, to the client": connections.cut_in_message,
    "connection truncated, three times": connections.truncated,
    "connection cut ten times in two seconds": connections.cut_many_times,
    "half-open connection": connections.half_open,
    "half-open connection, one way": connections.half_open_one_way,
    "slow connection": connections.slow,
    "server killed in mid-round and resumed, three times": ends.server_killed,
    "the same, its newest checkpoint truncated": ends.checkpoint_truncated,
    "server killed for good": ends.server_gone_for_good,
    "two clients with one cid": ends.two_with_one_cid,
    "replies sent twice, and late": replies.duplicated,
    "replies in another order": replies.reordered,
    "NaN, wrong shapes, names, types, counts from 11 clients": replies.bad,
    "wrong passphrase, none": strangers.wrong_passphrase,
    "wrong CA": strangers.wrong_authority,
    "certificate expires during the run": strangers.expired_certificate,
    "1,000 random and mutated frames": strangers.garbage,
    "200 connections that never authenticate": strangers.silent_strangers,
}

__all__ = ["FAULTS", "Stage", "Verdict", "play", "stage"]
