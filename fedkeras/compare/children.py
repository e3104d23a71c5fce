"""Processes that train for a comparison: started in the user's folder, ended with it, their last words kept."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

PATIENCE_SECONDS = 30.0
"""How long a process that was told to end at once may take."""


class Child:
    """A Python process whose output goes into files of `folder`, and its stdin comes from here."""

    def __init__(self, words: Sequence[str], folder: Path, name: str) -> None:
        self._errors = folder / f"{name}.err"
        # `python server.py` looks for a user's modules where server.py is, and not where this command was started
        path = os.pathsep.join(filter(None, (str(Path.cwd()), os.environ.get("PYTHONPATH"))))
        with (folder / f"{name}.out").open("ab") as out, self._errors.open("wb") as errors:
            # A session of its own: Ctrl-C in the terminal is for this command, which passes it on
            self.process = subprocess.Popen(
                [sys.executable, *words],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,
            )

    def say(self, line: str) -> None:
        """Give it a line; one that has ended takes none, and its status says so."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{line}\n".encode())
            self.process.stdin.flush()

    def last_words(self) -> str:
        """The signal that killed it; else the last line it wrote to stderr, or its exit status."""
        status = self.process.poll()
        if status is not None and status < 0:  # its last line is of something that went well enough
            return f"it was killed by {_name_of(-status)}"
        lines = [line.strip() for line in self._errors.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else f"it ended with status {status}"

    def interrupt(self) -> None:
        """Pass Ctrl-C on."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)

    def end(self, patience: float = PATIENCE_SECONDS) -> None:
        """Wait until it is gone; kill it after `patience` seconds."""
        deadline = time.monotonic() + patience
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                self.process.kill()
            time.sleep(0.02)
        self.process.stdin.close()


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
