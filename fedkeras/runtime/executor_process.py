"""The executor's process as the command of a warm SuperNode sees it: what it was given, what it says, how it ended."""

import base64
import json
import queue
import signal
import subprocess
import threading
from collections.abc import Sequence

from fedkeras import lifeline
from fedkeras.flower.runtime_api import TaskClaim

END_SECONDS = 2.0
"""How long it may take to end when it is asked to; it has nothing to finish."""


class ExecutorProcess:
    """A process that runs `executor.serve`; it ends when this process does."""

    def __init__(self, command: Sequence[str]) -> None:
        self.run_id: int | None = None
        """The run it works for: that of its first task."""
        self.claim: TaskClaim | None = None
        """The task that it works on."""
        self.head = b""
        """What ClaimedTask.pull_head gave it of this task; b"": it has not come so far."""
        self.has_begun = False
        """Whether it has told the SuperNode that it works on this task; nobody else can begin with it then."""
        self.is_ready = False
        """Whether it has imported what it needs."""
        # A session of its own: Ctrl-C in the terminal is for the command, which ends the others in their order.
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, start_new_session=True, **pipes, **lifeline.tied())
        self._reports: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="fedkeras-executor", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_free(self) -> bool:
        """Ready, and not at work."""
        return self.is_ready and self.claim is None

    def give(self, claim: TaskClaim) -> None:
        """A task to work on. Whether it could take it is seen by `status`."""
        self.run_id, self.claim, self.head, self.has_begun = claim.run_id, claim, b"", False
        try:
            self._process.stdin.write(json.dumps({"token": claim.token}) + "\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it has just ended

    def status(self) -> int | None:
        """Take in what it has said since; returns its exit status if it has ended, and None if it lives."""
        status = self._process.poll()
        if status is not None:
            self._reader.join(END_SECONDS)  # its last words
        while not self._reports.empty():
            said = json.loads(self._reports.get())
            self.is_ready |= "ready" in said
            self.has_begun |= "begun" in said
            if "head" in said:
                self.head = base64.b64decode(said["head"])
            if "done" in said:
                self.claim = None
        return status

    def end(self) -> None:
        """End it, at once if need be."""
        self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdin.close()

    def _read(self) -> None:
        with self._process.stdout as lines:
            for line in lines:
                self._reports.put(line)


def how_it_ended(status: int) -> str:
    """The words for an exit status as subprocess gives it."""
    if status >= 0:
        return f"ended with status {status}"
    return f"was ended by {signal.Signals(-status).name}"
