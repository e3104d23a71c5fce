"""A client process that learns by arithmetic: `python toy_node.py HOST:PORT CIDS`, and `--how` it misbehaves."""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedkeras.errors import UserError, complain
from fedkeras.federation.records import record, view
from fedkeras.runtime import channel, node, wire
from fedkeras.runtime.client_session import ClientSession
from fedkeras.runtime.holder_key import read_key
from fedkeras.runtime.passphrase import Access, read_passphrase

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from faults.stage import initial, step  # tests/runtime is no package

app = ClientApp()
COUNTS = {"zero": 0, "negative": -5, "huge": 10**18, "fraction": 1.5, "not-a-number": float("nan")}
BAD_REPLIES = ("nan", "infinity", "shapes", "names", "dtype", "empty", *COUNTS)
"""What clients 2, 3, ... send under `--how bad`."""


@app.query("initial_weights")
def initial_weights(message: Message, context: Context) -> Message:
    """The same from every client."""
    weights = initial(context.node_config["size"])
    return Message(RecordDict({"arrays": record({"w": weights})}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """A step, and then what it is to be spoiled by."""
    own = context.node_config
    cid, server_round = int(own["partition-id"]), int(message.content["config"]["server-round"])
    print(f"trains round {server_round}", flush=True)
    time.sleep(own["seconds"])
    weights = step(view(message.content["arrays"]["w"]), cid, server_round)
    how = BAD_REPLIES[cid - 2] if own["how"] == "bad" else ""
    arrays, count = spoiled(weights, how), COUNTS.get(how, cid + 1)
    metrics = MetricRecord({"num-examples": count, "loss": 1.0 / server_round})
    return Message(RecordDict({"arrays": record(arrays), "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """The loss is the mean of the weights."""
    loss = float(np.mean(view(message.content["arrays"]["w"])))
    metrics = MetricRecord({"num-examples": int(context.node_config["partition-id"]) + 1, "loss": loss})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def spoiled(weights: np.ndarray, how: str) -> dict[str, np.ndarray]:
    """The arrays of a reply, wrong in the way that `how` says."""
    if how in ("nan", "infinity"):
        weights = weights.copy()
        weights[-1] = np.nan if how == "nan" else np.inf
    if how == "shapes":
        weights = weights[:-1]
    if how == "dtype":
        weights = weights.astype(np.float64)
    return {} if how == "empty" else {"v" if how == "names" else "w": weights}


def answer_twice() -> None:
    """Send each reply twice, and the one before it a third time, long after it was counted."""
    answer, sent = ClientSession.reply, []

    def reply(self: ClientSession, message_id: str, outgoing: wire.Outgoing) -> None:
        answer(self, message_id, outgoing)
        with self._lock:
            for again in (outgoing, *sent):
                self._connection.send(wire.frames(*again, wire.TO_SERVER))
        sent[:] = [outgoing]

    ClientSession.reply = reply


def answer_backwards(count: int) -> None:
    """Hold the replies of a round back until there are `count`, and send the last first."""
    answer, waiting = ClientSession.reply, []

    def reply(self: ClientSession, message_id: str, outgoing: wire.Outgoing) -> None:
        waiting.append((message_id, outgoing))
        if outgoing[0].message_type not in ("train", "evaluate") or len(waiting) == count:
            while waiting:
                answer(self, *waiting.pop())

    ClientSession.reply = reply


def main() -> int:
    """As client.py: the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("cids", type=lambda text: [int(cid) for cid in text.split(",")])
    parser.add_argument("--how", default="", choices=["", "twice", "backwards", "bad"])
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--max-wait", type=float, default=120.0)
    parser.add_argument("--passphrase-file", default="")
    parser.add_argument("--holder-key", default="")
    parser.add_argument("--shared", action="store_true")
    parser.add_argument("--tls-ca", default="")
    flags = parser.parse_args()
    if flags.how == "twice":
        answer_twice()
    if flags.how == "backwards":
        answer_backwards(len(flags.cids))
    if seconds := int(os.environ.get("TOY_KEEPALIVE", 0)):
        channel.KEEPALIVE_SECONDS = channel.KEEPALIVE_TIMEOUT_SECONDS = seconds
    own = {"size": flags.size, "seconds": flags.seconds, "how": flags.how}
    try:
        key = read_key(flags.holder_key, Path(os.environ["FEDKERAS_CACHE"]))
        access = Access(read_passphrase(flags.passphrase_file), tls_ca=flags.tls_ca)
        report = lambda text: print(text, flush=True)  # noqa: E731
        node.serve(
            app, flags.server, flags.cids, own, flags.max_wait, report=report, shared=flags.shared, access=access,
            holder_key=key,
        )  # fmt: skip
    except UserError as error:
        return complain("toy", error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
