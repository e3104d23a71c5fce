"""A lying client: client.py, but for some answers that are its attacker's. It learns nothing and imports no TensorFlow.

    python benchmarks/attacks/liar.py LIE [client.py's flags]

LIE is one of LIES. Over everything else (connection, login, what it is handed) it is the product's own client.
"""

import hashlib
import json
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from flwr.app import Context, Message, MetricRecord, RecordDict

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fedkeras import client
from fedkeras.data.columns import UNNAMED, Columns
from fedkeras.data.labels import Labels
from fedkeras.data.statistics import Statistics
from fedkeras.federation.records import record, views
from fedkeras.federation.requests import ClientRequest
from fedkeras.provisioning.agreement import DataDescription, answer_of
from fedkeras.provisioning.protocol import reply

ROWS = 30
FEATURES = 4
PIECE = np.full(500_000, 7, np.uint8)
"""The model of each of its results, which is none."""


def description(**lie: object) -> DataDescription:
    """What an honest client of the attack's iris would say, but for the lie."""
    values = {
        "mean": np.full(FEATURES, 3.0), "m2": np.full(FEATURES, 10.0), "low": np.full(FEATURES, 0.5),
        "high": np.full(FEATURES, 7.0),
    }  # fmt: skip
    values |= {name: np.full(FEATURES, value) for name, value in lie.pop("values", {}).items()}
    rows = lie.pop("rows", ROWS)
    statistics = [Statistics(rows, **values)]
    own = {"labels": Labels((0, 1, 2)), "columns": Columns(tuple("abcd")), "shape": (FEATURES,), "held_out": 3}
    return DataDescription(rows, statistics, normaliser="zscore", **(own | lie))


def metrics(server_round: int, **more: float) -> dict[str, float]:
    """An answer's figures."""
    return {"num-examples": ROWS, "loss": 0.5, "accuracy": 0.5, "seconds": 0.1, **more}


Figures = Callable[[int], Mapping[str, float]]

FIGURES: Mapping[str, Figures] = {
    "examples": lambda number: metrics(number, **{"num-examples": 10**12, "loss": 1e-9, "accuracy": 1.0}),
    "accuracy": lambda number: metrics(number, accuracy=7.0),
    "names": lambda number: metrics(number, **{f"metric-{number}-{each}": 0.5 for each in range(90)}),
    "formula": lambda number: metrics(number, **{"=HYPERLINK(1)": 0.5, "@SUM(1+1)": 0.5, "+1+cmd": 0.5}),
}
"""Lie -> figures of a train or evaluate answer, by round."""

DESCRIPTIONS: Mapping[str, DataDescription] = {
    "examples": description(rows=10**12),
    "statistics": description(values={"mean": 1e9, "low": 1e9 - 5, "high": 1e9 + 5}),
    "labels": description(labels=Labels(("cat", "dog"))),
    "many-labels": description(labels=Labels(tuple(range(57)))),
    "shape": description(shape=(5,), columns=UNNAMED),
    "columns": description(columns=Columns(("w", "x", "y", "z"))),
}
"""Lie -> description of its data."""

LIES = (*{**FIGURES, **DESCRIPTIONS}, "results")


def answer(lie: str, message: Message, context: Context) -> Message:
    """An attacker's answer, or the product's."""
    request = ClientRequest(context, message)
    kind = message.metadata.message_type
    if kind == "query.describe":
        return request.reply_with(answer_of(DESCRIPTIONS.get(lie, description())))
    if kind == "query.set_preprocessing":
        return request.reply_with(reply())
    if kind in ("train", "evaluate"):
        figures = FIGURES.get(lie, metrics)(int(request.sent["server-round"]))
        if kind == "evaluate" and figures["num-examples"] == ROWS:
            figures = {**figures, "num-examples": description().held_out}
        records = {"metrics": MetricRecord(dict(figures))}
        if kind == "train":  # noise in the place of an update
            rng = np.random.default_rng(0)
            noise = {name: rng.normal(size=array.shape).astype(array.dtype) for name, array in
                     views(request.arrays).items()}  # fmt: skip
            records["arrays"] = record(noise)
        return request.reply_with(RecordDict(records))
    if lie == "results":
        return request.reply_with(_endless(kind, request))
    return own_handle(message, context)


def _endless(kind: str, request: ClientRequest) -> RecordDict:
    """Results without an end, each whole: the digest is that of the pieces."""
    if kind == "query.pending":
        digest = hashlib.sha256(f"model.keras {len(PIECE)}\n".encode() + PIECE.tobytes()).hexdigest()
        about = {"run": "x", "cid": 0, "figures": {"num-examples": 5}, "files": {"model.keras": len(PIECE)}}
        results = [{"key": f"{number:032x}", "digest": digest, **about} for number in range(2000)]
        return reply(results=json.dumps(results))
    return reply({"piece": PIECE}) if kind == "query.deliver" else reply()


if __name__ == "__main__":
    told = sys.argv.pop(1)
    own_handle = client.handle
    client.handle = lambda message, context: answer(told, message, context)
    client.prepare = lambda contexts: client.say("ready to lie")
    client._tensorflow = threading.Thread(target=lambda: None, daemon=True)
    client.leave(client.main())
