"""The client's side of `--mode collect`: trains in a thread, says how far it is, hands the result over piece by piece.

The result lies on the client's disk before the server hears of it, and stays there until the server has confirmed its
digest: whatever breaks in between, it can be delivered later.
"""

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
from flwr.app import RecordDict

from fedkeras.errors import UserError
from fedkeras.provisioning.client import ProvisioningRequest
from fedkeras.provisioning.protocol import reply
from fedkeras.reports import progress_bar
from fedkeras.workflows.collect import outbox
from fedkeras.workflows.collect.outbox import LocalResult

log = logging.getLogger("fedkeras")

PIECE_BYTES = 16 << 20
ANSWER_SECONDS = 1.0
"""A question after the state is answered when it changes, or after this time."""


class LocalJob:
    """One training, in a thread of its own."""

    def __init__(self, run: str, cid: int, make: Callable) -> None:
        self.run, self.cid, self.state = run, cid, "waiting"
        self.result: LocalResult | None = None
        self.fault = ""
        self._changed = threading.Condition()
        self._told = ""
        threading.Thread(target=self._work, args=(make,), name="fedkeras-training", daemon=True).start()

    def say(self, state: str) -> None:
        """The state has changed."""
        with self._changed:
            self.state = state
            self._changed.notify_all()

    def news(self) -> None:
        """Wait for another state than was told last, but not long."""
        with self._changed:
            self._changed.wait_for(lambda: self.over or self.state != self._told, ANSWER_SECONDS)
            self._told = self.state

    @property
    def over(self) -> bool:
        """True when there is a result or a fault."""
        return self.result is not None or bool(self.fault)

    def _work(self, make: Callable) -> None:
        with _one_at_a_time:
            try:
                result = outbox.keep(self.run, self.cid, lambda folder: make(folder, self.say))
            except Exception as error:  # noqa: BLE001 - whatever training raises is this client's failure
                said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                with self._changed:
                    self.fault = " ".join(said.split())[:500]
                    self._changed.notify_all()
                return
        with self._changed:
            self.result, self.state = result, "delivering"
            self._changed.notify_all()


_jobs: dict[int, LocalJob] = {}
_one_at_a_time = threading.Lock()
"""A process that serves several partitions has one model."""


def fit(task: ProvisioningRequest, make: Callable) -> RecordDict:
    """Begin to train; `make(folder, say)` does it. What was trained for this run already is not trained again."""
    run, job = str(task.sent["run"]), _jobs.get(task.cid)
    if job is None or job.run != run or job.fault:
        kept = [result for result in outbox.pending() if (result.run, result.cid) == (run, task.cid)]
        if not kept:
            _jobs[task.cid] = LocalJob(run, task.cid, make)
        else:
            _jobs.pop(task.cid, None)
    return reply()


def progress(task: ProvisioningRequest) -> RecordDict:
    """What the client is at; and when it is done, the key of the result."""
    run, job = str(task.sent["run"]), _jobs.get(task.cid)
    if job is None or job.run != run:
        kept = [result for result in outbox.pending() if (result.run, result.cid) == (run, task.cid)]
        if not kept:
            raise UserError("this client has not begun to train (it joined a moment ago)")
        return reply(state="delivering", result=json.dumps(asdict(kept[-1])))
    job.news()
    if job.fault:
        raise UserError(job.fault)
    return reply(state=job.state, result=json.dumps(asdict(job.result)) if job.result else "")


def pending(task: ProvisioningRequest) -> RecordDict:
    """All results that this machine still holds."""
    del task
    return reply(results=json.dumps([asdict(result) for result in outbox.pending()]))


def deliver(task: ProvisioningRequest) -> RecordDict:
    """A piece of a file of a result."""
    result = outbox.find(str(task.sent["key"]))
    name, first = str(task.sent["name"]), int(task.sent["first"])
    piece = outbox.read(result, name, first, PIECE_BYTES)
    sizes = list(result.files.values())
    before = sum(sizes[: list(result.files).index(name)])
    progress_bar.shown.moved(task.cid, "delivering", before + first + len(piece), sum(sizes))
    return reply({"piece": np.frombuffer(piece, np.uint8)})


def confirm(task: ProvisioningRequest) -> RecordDict:
    """The server has a result on its disk: with the right digest it need not be kept any longer."""
    result = outbox.find(str(task.sent["key"]))
    if result.digest != task.sent["digest"]:
        raise UserError("the server confirms another digest than this result's: it is kept")
    outbox.forget(result)
    return reply()


HANDLERS = {handler.__name__: handler for handler in (progress, pending, deliver, confirm)}
"""Action -> handler; `fit` besides, which needs somebody who trains."""


def finish(say: Callable[[str], None]) -> None:
    """The server is gone: let what is being trained come to its end, so that it can be delivered later."""
    busy = [job for job in _jobs.values() if not job.over]
    if busy:
        say("the training goes on to its end, and its result is kept; Ctrl-C gives it up")
    for job in busy:
        while not job.over:
            job.news()
    if kept := [job.result for job in _jobs.values() if job.result and (outbox.results() / job.result.key).exists()]:
        say(f"{len(kept)} result{'s' * (len(kept) > 1)} not confirmed by the server: deliver later with --deliver")
