"""What passes between client and server in split learning: every byte is recorded, and no example or label is in it.

The inputs are random float32 numbers, so that even a quarter of one's bytes is nowhere by chance.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from processes import HERE, ROOT, Starter
from proxy import UP, Proxy

from fedkeras import data
from fedkeras.config import Config
from fedkeras.learning.learner import draw
from fedkeras.randomness import generator

CLIENTS, BATCH, SEEDS = 2, 9, 3
SETTING = {"dataset": "split_setting:marked", "num_partitions": CLIENTS, "test_fraction": 0.4, "batch_size": BATCH}
MODEL = ("--model", "split_setting:awkward", "--split-at", "3,7")
FLOATS = (np.float32, np.float16, ml_dtypes.bfloat16, np.float64)
INTEGERS = ("u1", "<i2", "<i4", "<i8", ">i2", ">i4", ">i8")


def encodings_of_input(x: np.ndarray) -> Iterator[tuple[str, bytes]]:
    """An example in quarters: HTTP/2 may cut what it carries anywhere, but not everywhere."""
    for dtype in FLOATS:
        for piece in np.array_split(x.reshape(-1), 4):
            yield f"input {np.dtype(dtype)}", piece.astype(dtype).tobytes()


def encodings_of_labels(y: np.ndarray) -> Iterator[tuple[str, bytes]]:
    """The labels of a batch, in order, as numbers, as one-hot rows and as text."""
    hot = np.eye(10)[y]
    for dtype in (*INTEGERS, *FLOATS):
        yield f"labels {np.dtype(dtype)}", y.astype(dtype).tobytes()
    for dtype in ("u1", "<i4", "<i8", *FLOATS):
        yield f"labels one-hot {np.dtype(dtype)}", hot.astype(dtype).tobytes()
    numbers = [int(label) for label in y]
    for text in (json.dumps(numbers), json.dumps(numbers, separators=(",", ":")), "".join(map(str, numbers))):
        yield "labels as text", text.encode()


def secrets() -> list[tuple[str, bytes]]:
    """All that must not be found: every example of every client, the labels of every batch and of each whole part."""
    config, found = Config(**SETTING), []
    for cid in range(CLIENTS):
        client = data.load_client(config, cid)
        for x in (*client.train.x, *client.test.x):
            found += encodings_of_input(x)
        orders = draw(generator(config.seed, "train", 1, cid), SEEDS, len(client.train), 1)[1]
        in_batches = [order[first : first + BATCH] for order in orders for first in range(0, len(order), BATCH)]
        of_batches = [client.train.y[batch] for batch in in_batches]
        assert all(len(y) >= BATCH for y in of_batches) and len(client.test) >= BATCH
        for y in (*of_batches, client.train.y, client.test.y, client.train.y[:BATCH], client.test.y[:BATCH]):
            found += encodings_of_labels(y)
    return found


def found_in(recording: bytes) -> Counter:
    """How many pieces of what must not be there are there, by encoding."""
    return Counter(name for name, piece in secrets() if piece in recording)


def recorded(start: Starter, monkeypatch, script: Path, *flags: object) -> dict[str, bytes]:
    """A whole run through a proxy; what passed up and down."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'tests'}{os.pathsep}{ROOT}")
    monkeypatch.syspath_prepend(str(ROOT / "tests"))
    setting = [word for key, value in SETTING.items() for word in (f"--{key.replace('_', '-')}", value)]
    server, address = start.server("--num-server-rounds", 1, *setting, *MODEL, *flags)
    with Proxy(address, record=True) as proxy:
        own = ("--dataset", SETTING["dataset"], *MODEL[:2])
        clients = [start.python(script, "--server", proxy.address, "--cid", cid, *own) for cid in range(CLIENTS)]
        statuses = [process.ended() for process in (server, *clients)]
        assert statuses == [0] * (1 + CLIENTS), server.err
        return {direction: bytes(content) for direction, content in proxy.recorded.items()}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["shared", "sequential", "splitfed"])
def test_no_example_and_no_label_leaves_a_client(start: Starter, monkeypatch, mode: str) -> None:
    recording = recorded(start, monkeypatch, ROOT / "client.py", "--split", mode)
    assert len(recording[UP]) > 36 * 4 * 4 * 4 * 2, "the activations of all examples passed"
    assert {direction: found_in(content) for direction, content in recording.items()} == {"up": {}, "down": {}}


@pytest.mark.slow
def test_they_would_be_found_if_somebody_sent_them(start: Starter, monkeypatch) -> None:
    """The client of this test sends each batch's examples and labels beside what it should."""
    recording = recorded(start, monkeypatch, HERE / "leaky_client.py", "--split", "shared")
    found = found_in(recording[UP])
    trained = sum(len(data.load_client(Config(**SETTING), cid).train) for cid in range(CLIENTS))
    assert found["input float16"] > 0.9 * trained * 4
    assert found["input float32"] > 0.9 * CLIENTS * BATCH * 4
    assert found["labels int64"] >= CLIENTS
    assert found["labels one-hot float32"] >= trained // BATCH - 1
