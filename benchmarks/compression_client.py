"""A client of benchmarks.compression, `python compression_client.py HOST:PORT CID`: it learns nothing, from no data.

Training moves every weight by chance, from (round, client). What it is sent says whether and how its answer is
compressed; residuals of top-k lie in the cache folder, as with any client.
"""

import sys

import numpy as np
from flwr.app import Context, Message, MetricRecord, RecordDict

from fedkeras.federation.records import record, views
from fedkeras.mods.chain import make_mods
from fedkeras.randomness import generator
from fedkeras.runtime.node import serve

WAIT_SECONDS = 300.0
COMPRESS = make_mods("compress:up=float16")
"""Its client half goes by what the server's messages say, whatever its own options."""


def app(message: Message, context: Context) -> Message:
    """The answer to a train message."""
    return COMPRESS.answer(message, context, train)


def train(message: Message, context: Context) -> Message:
    """Each weight moved by a hundredth or so."""
    rng = generator(0, "moved", int(message.content["config"]["server-round"]))
    moved = {
        name: array + rng.standard_normal(array.shape, np.float32) / 100
        for name, array in views(message.content["arrays"]).items()
    }
    metrics = MetricRecord({"num-examples": 1, "loss": 0.5})
    return Message(RecordDict({"arrays": record(moved), "metrics": metrics}), reply_to=message)


if __name__ == "__main__":
    # One that is started again is the same client
    serve(app, sys.argv[1], [int(sys.argv[2])], {"allow": ""}, WAIT_SECONDS, holder_key=bytes(32))
