"""A client process without Keras: `python toy_client.py HOST:PORT CIDS` does what the messages tell it to.

Run by the tests as a process of its own; `app` is also imported by them for InProcessGrid.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedkeras.errors import UserError, complain
from fedkeras.federation.initial_weights import content_of
from fedkeras.runtime import node, server_connection, wire
from fedkeras.runtime.holder_key import read_key
from fedkeras.runtime.passphrase import Access, read_passphrase

app = ClientApp()


def cid_of(context: Context) -> int:
    """The partition this message is for."""
    return int(context.node_config["partition-id"])


@app.query("echo")
def echo(message: Message, context: Context) -> Message:
    """Send everything back as it came."""
    return Message(message.content, reply_to=message)


@app.query("who")
def who(message: Message, context: Context) -> Message:
    """What the runtime told this node about itself and the run."""
    told = {f"run.{key}": value for key, value in context.run_config.items()}
    told |= {f"node.{key}": value for key, value in context.node_config.items()}
    config = ConfigRecord({**told, "node_id": context.node_id, "run_id": context.run_id})
    return Message(RecordDict({"config": config}), reply_to=message)


@app.query("wait")
def wait(message: Message, context: Context) -> Message:
    """Say on stdout that work has begun, work for `seconds`, then answer."""
    print(f"working for client {cid_of(context)}", flush=True)
    time.sleep(float(message.content["config"]["seconds"]))
    return Message(message.content, reply_to=message)


@app.query("pid")
def pid(message: Message, context: Context) -> Message:
    """Work for `seconds`, then say which process did it."""
    print(f"working for client {cid_of(context)}", flush=True)
    time.sleep(float(message.content["config"]["seconds"]))
    return Message(RecordDict({"config": ConfigRecord({"pid": os.getpid()})}), reply_to=message)


@app.query("misbehave")
def misbehave(message: Message, context: Context) -> Message:
    """One of the things a user's client code can do wrong."""
    how = message.content["config"]["how"]
    if how == "raise":
        raise ValueError("the disk\nis on fire")
    if how == "user-error":
        raise UserError("no such file: x.csv")
    if how == "surrogate":
        raise ValueError("a name that is no text: \udcff")
    if how == "nothing":
        return None
    if how == "no-reply":
        return Message(message.content, message.metadata.src_node_id, "query.echo")
    if how == "large-integer":
        return Message(RecordDict({"metrics": MetricRecord({"n": 1 << 70})}), reply_to=message)
    if how == "large-config":
        return Message(RecordDict({"config": ConfigRecord({"blob": bytes(20 << 20)})}), reply_to=message)
    raise AssertionError(how)


@app.query("initial_weights")
def initial_weights(message: Message, context: Context) -> Message:
    """Three zeros, which are trained."""
    return Message(content_of(ArrayRecord({"w": Array(np.zeros(3, np.float32))}), ["w"]), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Client c adds c + 1 to all weights, and says it has c + 1 examples."""
    time.sleep(float(context.node_config.get("seconds", 0.0)))
    count = cid_of(context) + 1
    trained = {name: Array(array.numpy() + np.float32(count)) for name, array in message.content["arrays"].items()}
    steps = {"local-steps": 4} if "most-steps" in message.content["config"] else {}
    metrics = MetricRecord({"num-examples": count, "loss": 1.0 / count, "accuracy": 0.5, "seconds": 0.01, **steps})
    return Message(RecordDict({"arrays": ArrayRecord(trained), "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """The loss is the mean of the weights. numpy's float64 is a float to Flower, and must be one to us."""
    loss = np.float64(np.mean([array.numpy().mean() for array in message.content["arrays"].values()]))
    metrics = MetricRecord({"num-examples": cid_of(context) + 1, "loss": loss, "accuracy": 0.5, "seconds": 0.01})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def say(text: str) -> None:
    """One line on stdout."""
    print(text, flush=True)


def main() -> int:
    """As client.py: the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("cids", type=lambda text: [int(cid) for cid in text.split(",") if cid])
    parser.add_argument("--max-wait", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=0.0, help="for each training")
    parser.add_argument("--shared", action="store_true")
    parser.add_argument("--replace", action="store_true")
    parser.add_argument("--passphrase-file", default="")
    parser.add_argument("--holder-key", default="")
    parser.add_argument("--tls-ca", default="")
    parser.add_argument("--protocol", type=int, default=wire.PROTOCOL)
    parser.add_argument("--version", default="")
    flags = parser.parse_args()
    wire.PROTOCOL = flags.protocol
    if flags.version:
        server_connection.version = lambda _: flags.version
    try:
        note = node.serve(
            app,
            flags.server,
            flags.cids,
            {"seconds": flags.seconds},
            flags.max_wait,
            report=say,
            shared=flags.shared,
            access=Access(read_passphrase(flags.passphrase_file), tls_ca=flags.tls_ca),
            replace=flags.replace,
            holder_key=read_key(flags.holder_key, Path(cache)) if (cache := os.environ.get("FEDKERAS_CACHE")) else b"",
        )
    except UserError as error:
        return complain("toy", error)
    say(f"finished; {note}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
