"""How long a client trains in a round, measured over a few batches on this machine."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fedkeras import data, factory
from fedkeras.config import Config

if TYPE_CHECKING:
    import keras

    from fedkeras.learning import Learner

BATCHES = 30
"""Batches that are trained on to find out; with the graph's making that takes seconds at most."""


@dataclass(frozen=True)
class TrainingPace:
    """What was measured, for the client that trains on the most examples."""

    cid: int
    batches: int
    """Of that client's round, all epochs together."""
    seconds: float
    """Its training of a round, by the batches that were measured."""
    measured: int


def measure_pace(config: Config, model: "keras.Model", train_sizes: np.ndarray) -> TrainingPace:
    """Train `model` on some batches of the largest client's, twice, since the first time makes the graph.

    The model is compiled and trained in place; the data set must be here. Raises UserError.
    """
    cid = int(np.argmax(train_sizes))
    learner = factory.learner_of(config, model)
    examples = data.load_client(config, cid).train
    count = min(len(examples), BATCHES * config.batch_size)
    placed = learner.place(examples.x[:count], examples.y[:count])
    for _ in range(2):
        seconds = _train(learner, placed, config.batch_size)
    measured = -(-count // config.batch_size)
    batches = -(-len(examples) // config.batch_size) * config.local_epochs
    return TrainingPace(cid, batches, seconds / measured * batches, measured)


def _train(learner: "Learner", placed: tuple, batch_size: int) -> float:
    started = time.perf_counter()
    learner.train(*placed, epochs=1, batch_size=batch_size, rng=np.random.default_rng(0))
    return time.perf_counter() - started
