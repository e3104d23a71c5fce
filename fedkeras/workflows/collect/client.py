"""The client's side of `--mode collect`: it trains in a thread, says how far it is, and delivers the result in pieces.

The result lies on the client's disk before the server hears of it, and stays there until the server has confirmed its
digest: whatever breaks in between, it can be delivered later.
"""

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from flwr.app import RecordDict

from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation.requests import ClientRequest, ContentHandler
from fedkeras.provisioning.protocol import reply
from fedkeras.reports import progress_bar, round_lines
from fedkeras.workflows.collect import outbox
from fedkeras.workflows.collect.outbox import PIECE_BYTES, Figures, LocalResult
from fedkeras.workflows.collect.training import train_once
from fedkeras.workflows.local_trainer import LocalTrainer

log = logging.getLogger("fedkeras")

ANSWER_SECONDS = 1.0
"""A question after the state is answered when it changes, or after this time."""

SetState = Callable[[str], None]
"""Called with what the training is at, in words."""

Train = Callable[[Path, SetState], Figures]
"""Trains, leaves its files in the folder, and returns the figures."""


class LocalJob:
    """One training, in a thread of its own: `result` when it is done, or `fault` in one line."""

    def __init__(self, run: str, cid: int, train: Train, one_at_a_time: threading.Lock) -> None:
        self.run, self.cid, self.state = run, cid, "waiting"
        self.result: LocalResult | None = None
        self.fault = ""
        self._changed, self._one_at_a_time = threading.Condition(), one_at_a_time
        self._reported = ""
        threading.Thread(target=self._work, args=(train,), name="fedkeras-training", daemon=True).start()

    def set_state(self, state: str) -> None:
        """The state has changed."""
        with self._changed:
            self.state = state
            self._changed.notify_all()

    def wait_for_change(self) -> None:
        """Wait for another state than after the last wait, but not long."""
        with self._changed:
            self._changed.wait_for(lambda: self.over or self.state != self._reported, ANSWER_SECONDS)
            self._reported = self.state

    @property
    def over(self) -> bool:
        """True when there is a result or a fault."""
        return self.result is not None or bool(self.fault)

    def _work(self, train: Train) -> None:
        with self._one_at_a_time:
            try:
                result = outbox.keep(self.run, self.cid, lambda folder: train(folder, self.set_state))
            except Exception as error:  # noqa: BLE001 - whatever training raises is this client's failure
                reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                with self._changed:
                    self.fault = " ".join(reason.split())[:500]
                    self._changed.notify_all()
                return
        with self._changed:
            self.result, self.state = result, "delivering"
            self._changed.notify_all()


class LocalJobs:
    """What a client process keeps from message to message: the last training of each cid that it serves.

    They train one after the other: a process that serves several partitions has one model.
    """

    def __init__(self) -> None:
        self._jobs: dict[int, LocalJob] = {}
        self.runs: set[str] = set()
        """The runs that this process has worked for: their server knows their ids, which nobody guesses."""
        self._one_at_a_time = threading.Lock()

    def begin(self, run: str, cid: int, train: Train) -> None:
        """Begin to train for this run, unless that is under way, or its result is kept."""
        job = self._jobs.get(cid)
        if job is not None and job.run == run and not job.fault:
            return
        if outbox.kept_for(run, cid) is None:
            self._jobs[cid] = LocalJob(run, cid, train, self._one_at_a_time)
        else:
            self._jobs.pop(cid, None)

    def find(self, run: str, cid: int) -> LocalJob | None:
        """The training for this run; None if this process has begun none."""
        job = self._jobs.get(cid)
        return job if job is not None and job.run == run else None

    def finish(self, show: Callable[[str], None]) -> None:
        """The server is gone: let what is being trained come to its end, so that it can be delivered later."""
        busy = [job for job in self._jobs.values() if not job.over]
        if busy:
            show("the training goes on to its end, and its result is kept; Ctrl-C gives it up")
        for job in busy:
            while not job.over:
                job.wait_for_change()
        done = [job.result for job in self._jobs.values() if job.result]
        if kept := [result for result in done if (outbox.results() / result.key).exists()]:
            show(f"{len(kept)} result{'s' * (len(kept) > 1)} not confirmed by the server: deliver later with --deliver")


local_jobs = LocalJobs()
"""This process's."""


def fit(request: ClientRequest) -> RecordDict:
    """Begin to train once and for all, in a thread. What was trained for this run already is not trained again."""
    trainer, cid = LocalTrainer(request), request.cid

    def train(folder: Path, set_state: SetState) -> Figures:
        model = trainer.model
        model.learner.set_weights(model.initial)

        def report(state: str, done: int, total: int, note: str) -> None:
            set_state(state)
            progress_bar.shown.trained(cid, state, done, total, note)

        examples = trainer.training_examples
        try:
            weights = trainer.sample_weights()
            figures = train_once(request.config, trainer.provisioned, model.learner, examples, folder, report, weights)
        finally:
            progress_bar.shown.over(cid)
        round_lines.shown.collected(cid, _how(request.config), figures)
        return figures

    run = str(request.sent["run"])
    if outbox.kept_for(run, cid) is None:
        outbox.require_room(request.download_bytes)
    local_jobs.runs.add(run)
    local_jobs.begin(run, cid, train)
    return reply()


def _how(config: Config) -> str:
    epochs = f"{config.local_epochs} epoch{'s' * (config.local_epochs > 1)}"
    return f"k-fold, {config.folds} folds of {epochs}," if config.method == "kfold" else epochs


def progress(request: ClientRequest) -> RecordDict:
    """What the client is at; and when it is done, the key of the result."""
    run = str(request.sent["run"])
    local_jobs.runs.add(run)
    job = local_jobs.find(run, request.cid)
    if job is None:
        kept = outbox.kept_for(run, request.cid)
        if kept is None:
            raise UserError("this client has not begun to train (it joined a moment ago)")
        return reply(state="delivering", result=json.dumps(asdict(kept)))
    job.wait_for_change()
    if job.fault:
        raise UserError(job.fault)
    return reply(state=job.state, result=json.dumps(asdict(job.result)) if job.result else "")


def pending(request: ClientRequest) -> RecordDict:
    """All results that this machine still holds. Raises UserError unless this client was started to deliver them."""
    if not _delivers_all(request):
        raise UserError("the server asks for what this machine trained in other runs: start this client with --deliver")
    return reply(results=json.dumps([asdict(result) for result in outbox.pending()]))


def deliver(request: ClientRequest) -> RecordDict:
    """A piece of a file of a result."""
    result = _asked_for(request)
    name, first = str(request.sent["name"]), int(request.sent["first"])
    piece = outbox.read(result, name, first, PIECE_BYTES)
    sizes = list(result.files.values())
    before = sum(sizes[: list(result.files).index(name)])
    progress_bar.shown.moved(request.cid, "delivering", before + first + len(piece), sum(sizes))
    return reply({"piece": np.frombuffer(piece, np.uint8)})


def confirm(request: ClientRequest) -> RecordDict:
    """The server has a result on its disk: with the right digest it need not be kept any longer."""
    result = _asked_for(request)
    if result.digest != request.sent["digest"]:
        raise UserError("the server confirms another digest than this result's: it is kept")
    outbox.forget(result)
    round_lines.shown.delivered(request.cid)
    return reply()


def _asked_for(request: ClientRequest) -> LocalResult:
    """The result that is meant, which is this run's unless the client delivers all. Raises UserError."""
    result = outbox.find(str(request.sent["key"]))
    if result.run not in local_jobs.runs and not _delivers_all(request):
        raise UserError("this client does not hold that result for this run")
    return result


def _delivers_all(request: ClientRequest) -> bool:
    return bool(request.context.node_config.get("deliver"))


HANDLERS = {f"query.{step.__name__}": ContentHandler(step) for step in (fit, progress, pending, deliver, confirm)}
"""Message type -> handler."""
