"""client.py, whose split learning sends what it must not: each batch's examples and labels, in two encodings."""

import numpy as np

from fedkeras import client
from fedkeras.federation.records import record
from fedkeras.workflows.split import client as split_handlers
from fedkeras.workflows.split.split_client import examples, plan

ANSWER = split_handlers.answer


def leaking(handler, config, cid, content, state):
    """The proper reply and more."""
    reply, sent = ANSWER(handler, config, cid, content, state), content["config"]
    (x, y), _ = examples(config, cid)
    own = plan(config, cid, 1)
    if handler is split_handlers.split_start and own.batches:
        reply["leak"] = record({"x": x[own.batches[0]], "y": y[own.batches[0]].astype(np.int64)})
    if handler is split_handlers.split_loss:
        chosen = own.batches[int(sent["batch"])]
        reply["leak"] = record({"x": x[chosen].astype(np.float16), "y": np.eye(10, dtype=np.float32)[y[chosen]]})
    return reply


if __name__ == "__main__":
    split_handlers.answer = leaking
    client.leave(client.main())
