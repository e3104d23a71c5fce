"""A process that trains baselines: `python -m fedkeras.compare.baseline_worker`. No other module of compare trains.

A job is a line of JSON on stdin: a folder, a configuration, and the client (or all) whose examples to train on. Its
figures are written into the folder when it is done. The process ends at once when stdin ends: the comparison is over.

What is learned from rows before training, the scaling and the classes' weights, is learned from the rows that the job
trains on: of `centralised` all clients', of `local` the client's own alone.

The model has the initial weights of the federated arms, and is trained for as many epochs. Its optimizer goes on from
round to round, as it does without federation, where a federated client's starts afresh in each round.
"""

import os
import queue
import sys
import threading
import time
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from fedkeras import data, factory, scaling
from fedkeras.callbacks import Row
from fedkeras.compare.arm_run import clock, macro_f1
from fedkeras.compare.baselines import ALL, BaselineFigures, BaselineJob
from fedkeras.config import Config
from fedkeras.data.labels import balanced_weights
from fedkeras.data.normalise import Normaliser
from fedkeras.errors import UserError, complain
from fedkeras.randomness import generator
from fedkeras.reports.history import History
from fedkeras.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    import tensorflow as tf

    from fedkeras.learning import Learner, TrainingResult


def train(job: BaselineJob) -> BaselineFigures:
    """Train on the client's examples, or on ALL, and test after each round's epochs. Raises UserError."""
    import_tensorflow()
    from fedkeras.learning.sample_weights import combined

    config, client = scaling.resolved_by_client(job.config), job.client
    learner, initial = _model(config)
    learner.set_weights(initial)
    normaliser, class_weights = _learned_from(config, client)
    test = _test(config, client if data.learns_scaling(config) else ALL)
    cids = range(config.num_partitions) if client == ALL else [int(client)]
    clients = [data.load_client(config, cid, normaliser) for cid in cids]
    examples = [one.train for one in clients]
    placed = learner.place(*(np.concatenate([getattr(one, name) for one in examples]) for name in ("x", "y")))
    own_weights = [data.sample_weights_of(config, cid) for cid in cids]
    weights = combined(placed[1], None if own_weights[0] is None else np.concatenate(own_weights), class_weights)
    job.rounds_path.unlink(missing_ok=True)  # of an attempt that was interrupted
    history = History(job.rounds_path)
    rng = generator(config.seed, "compare", client)
    count, seconds, training, curve = int(placed[0].shape[0]), [], 0.0, []
    learner.begin_training(rng)
    for number in range(1, config.num_server_rounds + 1):
        started = time.perf_counter()
        for _ in range(config.local_epochs):
            trained = learner.train_epoch(*placed, rng.permutation(count), config.batch_size, weights)
        if number == config.num_server_rounds:
            learner.end_training()
        between = time.perf_counter()
        tested = learner.evaluate(*test)
        ended = time.perf_counter()
        seconds.append(ended - started)
        training += between - started
        history.append(
            [
                _row(number, "train", client, trained, between - started),
                _row(number, "evaluate", "server", tested, ended - between),
            ]
        )
        curve.append({"round": number, "accuracy": tested.accuracy, "loss": tested.loss})
    own = {
        str(cid): learner.evaluate(one.test.x, one.test.y).accuracy
        for cid, one in zip(cids, clients, strict=True)
        if len(one.test)
    }
    return BaselineFigures(
        curve=curve,
        macro_f1=_macro_f1(config, test),
        own={cid: accuracy for cid, accuracy in own.items() if accuracy is not None},
        seconds=clock(seconds),
        training_seconds=training,
        test_examples=tested.num_examples,
    )


def _learned_from(config: Config, client: str) -> tuple[Normaliser, tuple[float, ...] | None]:
    """By what this job's examples are scaled, and what its classes weigh: by the rows that it is trained on."""
    cids = range(config.num_partitions) if client == ALL else [int(client)]
    own = data.pooled_normaliser(config) if client == ALL else data.own_normaliser(config, int(client))
    weights = balanced_weights(data.label_counts(config, cids).tolist()) if config.class_weight == "balanced" else None
    return own, weights


@lru_cache(maxsize=1)
def _model(config: Config) -> "tuple[Learner, dict[str, np.ndarray]]":
    """The learner and its initial weights: of all jobs with one configuration."""
    learner = factory.make_learner(config, config.threads_per_client)
    return learner, learner.get_weights()


@lru_cache(maxsize=1)
def _test(config: Config, client: str) -> "tuple[tf.Tensor, tf.Tensor]":
    """The central test set on the device, scaled as this client's examples are, or as ALL are."""
    test = data.load_test(config, _learned_from(config, client)[0])
    return _model(config)[0].place(test.x, test.y)


def _macro_f1(config: Config, test: "tuple[tf.Tensor, tf.Tensor]") -> float | None:
    from fedkeras.learning.targets import predicted_classes

    learner, (x, _), source = _model(config)[0], test, data.open_source(config)
    if source.targets is not None:
        return None
    labels = source.test_labels()
    return macro_f1(labels, predicted_classes(learner.model, x, labels, len(source.classes)))


def _row(number: int, phase: str, client: str, result: "TrainingResult", seconds: float) -> Row:
    figures = {"loss": result.loss, "accuracy": result.accuracy, "seconds": seconds}
    return {"round": number, "phase": phase, "client": client, "num_examples": result.num_examples, **figures}


def _lines() -> "queue.Queue[str]":
    """Lines of stdin as they come, without their ends. When stdin ends, so does this process."""
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line.strip())
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    return lines


def main() -> int:
    """Do the jobs that come on stdin, and return the exit status."""
    lines, whose = _lines(), "baseline"
    try:
        while line := lines.get():
            job = BaselineJob.from_line(line)
            whose = f"client {job.client}" if job.client != ALL else "all clients together"
            train(job).write(job.figures_path)
    except UserError as error:
        return complain(whose, error)
    return 0


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # an orderly end would wait for the thread that reads stdin
