"""A process that trains baselines: `python -m fedkeras.compare.baseline_worker`. No other module of compare trains.

A job is a line of JSON on stdin: a folder, a configuration, and the client (or all) whose examples to train on. Its
figures are written into the folder when it is done. The process ends at once when stdin ends: the comparison is over.

How it trains is in fedkeras/local_training.py.
"""

import os
import queue
import sys
import threading
from typing import TYPE_CHECKING

from fedkeras.callbacks import Row
from fedkeras.cids import ALL
from fedkeras.compare.arm_run import clock, macro_f1
from fedkeras.compare.baselines import BaselineFigures, BaselineJob
from fedkeras.errors import UserError, complain
from fedkeras.local_training import LocalTraining
from fedkeras.reports.history import History

if TYPE_CHECKING:
    from fedkeras.learning import TrainingResult


def train(job: BaselineJob) -> BaselineFigures:
    """Train on the client's examples, or on ALL, and test after each round's epochs. Raises UserError."""
    training = LocalTraining(job.config, job.client)
    job.rounds_path.unlink(missing_ok=True)  # of an attempt that was interrupted
    history = History(job.rounds_path)
    seconds, training_seconds, curve = [], 0.0, []
    for done in training.rounds():
        if done.tested is None:
            raise UserError(f"--dataset {job.config.dataset} has no test set, on which arms are compared")
        seconds.append(done.training_seconds + done.test_seconds)
        training_seconds += done.training_seconds
        history.append(
            [
                _row(done.number, "train", job.client, done.trained, done.training_seconds),
                _row(done.number, "evaluate", "server", done.tested, done.test_seconds),
            ]
        )
        curve.append({"round": done.number, "accuracy": done.tested.accuracy, "loss": done.tested.loss})
    held_out = training.held_out()
    own = {str(cid): result.accuracy for cid, result in held_out.items()}
    labels, predicted, _ = training.predictions() or (None, None, None)
    return BaselineFigures(
        curve=curve,
        macro_f1=macro_f1(labels, predicted),
        own={cid: accuracy for cid, accuracy in own.items() if accuracy is not None},
        seconds=clock(seconds),
        training_seconds=training_seconds,
        test_examples=done.tested.num_examples,
        own_examples={str(cid): result.num_examples for cid, result in held_out.items()},
    )


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
