"""Training without federation, in a process of its own: `python -m fedkeras.compare.baseline_worker`.

A job comes as a line of JSON on stdin: a folder, a configuration, and whose examples to train on. What it comes to is
written into the folder when it is done. The process ends when stdin does, at once: nobody waits for it any more.

The model has the initial weights, and is trained for as many epochs, as in the federated arms; its optimizer goes on
from round to round, as it does where nothing is federated. (A federated client's starts afresh in each round.)
"""

import json
import os
import queue
import sys
import threading
import time
from functools import lru_cache
from pathlib import Path

import numpy as np

from fedkeras import data, factory
from fedkeras.atomic import replace_file
from fedkeras.compare.arm_run import clock, macro_f1
from fedkeras.compare.baselines import ALL, figures_path, rounds_path
from fedkeras.config import Config
from fedkeras.errors import UserError, complain
from fedkeras.randomness import generator
from fedkeras.reports.history import History


def train(folder: Path, config: Config, who: str) -> dict:
    """Train on client `who`'s examples, or on ALL, and test after each round's epochs. Raises UserError."""
    learner, initial, test = _model(config)
    learner.set_weights(initial)
    cids = range(config.num_partitions) if who == ALL else [int(who)]
    parts = [data.load_client(config, cid) for cid in cids]
    examples = [part.train for part in parts]
    placed = learner.place(*(np.concatenate([getattr(part, name) for part in examples]) for name in ("x", "y")))
    rounds_path(folder, who).unlink(missing_ok=True)  # of an attempt that was interrupted
    history = History(rounds_path(folder, who))
    rng = generator(config.seed, "compare", who)
    count, seconds, training, curve = int(placed[0].shape[0]), [], 0.0, []
    learner.begin(rng)
    for number in range(1, config.num_server_rounds + 1):
        started = time.perf_counter()
        for _ in range(config.local_epochs):
            trained = learner.go_on(*placed, rng.permutation(count), config.batch_size)
        if number == config.num_server_rounds:
            learner.end()
        between = time.perf_counter()
        tested = learner.evaluate(*test)
        ended = time.perf_counter()
        seconds.append(ended - started)
        training += between - started
        history.append(
            [
                _row(number, "train", who, trained, between - started),
                _row(number, "evaluate", "server", tested, ended - between),
            ]
        )
        curve.append({"round": number, "accuracy": tested.accuracy, "loss": tested.loss})
    own = {
        str(cid): learner.evaluate(part.test.x, part.test.y).accuracy
        for cid, part in zip(cids, parts, strict=True)
        if len(part.test)
    }
    return {
        "curve": curve,
        "macro_f1": _macro_f1(config),
        "own": {cid: accuracy for cid, accuracy in own.items() if accuracy is not None},
        "seconds": clock(seconds),
        "training_seconds": training,
    }


@lru_cache(maxsize=1)
def _model(config: Config) -> tuple:
    """The learner, its initial weights, and the central test set on the device."""
    learner = factory.make_learner(config, config.threads_per_client)
    test = data.load_test(config)
    return learner, learner.get_weights(), learner.place(test.x, test.y)


def _macro_f1(config: Config) -> float | None:
    from fedkeras.learning.targets import predicted_classes

    learner, _, (x, _) = _model(config)
    labels = data.open_source(config).test_labels()
    return macro_f1(labels, predicted_classes(learner.model, x, labels, len(data.open_source(config).classes)))


def _row(number: int, phase: str, client: str, outcome: object, seconds: float) -> dict:
    figures = {"loss": outcome.loss, "accuracy": outcome.accuracy, "seconds": seconds}
    return {"round": number, "phase": phase, "client": client, "num_examples": outcome.num_examples, **figures}


def _jobs() -> queue.Queue:
    """Lines of stdin as they come, None for a last empty one. When stdin ends, so does this process."""
    jobs: queue.Queue = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            jobs.put(json.loads(line) if line.strip() else None)
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    return jobs


def main() -> int:
    """Do what comes on stdin, and return the exit status."""
    jobs = _jobs()
    try:
        while job := jobs.get():
            folder, who = Path(job["folder"]), job["who"]
            figures = train(folder, Config.from_run_config(job["config"]), who)
            replace_file(figures_path(folder, who), f"{json.dumps(figures)}\n".encode())
    except UserError as error:
        return complain(f"client {who}" if who != ALL else "all clients together", error)
    return 0


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # an orderly end would wait for the thread that reads stdin
