"""Processes that train for a comparison: started in the user's folder, with their output in files."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from fedkeras import lifeline

PATIENCE_SECONDS = 30.0
"""How long a process may take to end."""


class Child:
    """A Python process whose output goes into files of `folder`, and which is sent lines on its stdin.

    `own` are variables of its environment beside those of this process.
    """

    def __init__(
        self, words: Sequence[str], folder: Path, name: str, own: Mapping[str, str] = MappingProxyType({})
    ) -> None:
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
                start_new_session=True,
                **lifeline.tied({**os.environ, **own, "PYTHONPATH": path}),
            )

    def send_line(self, line: str) -> None:
        """Send it a line. That it has ended is no error here: its exit status shows it."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{line}\n".encode())
            self.process.stdin.flush()

    def last_words(self) -> str:
        """The signal that killed it; else the last line it wrote to stderr, or its exit status."""
        status = self.process.poll()
        if status is not None and status < 0:  # its last line would be about something else
            return f"it was killed by {_name_of(-status)}"
        lines = [line.strip() for line in self._errors.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else f"it ended with status {status}"

    def interrupt(self) -> None:
        """Pass Ctrl-C on."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)

    def end(self, patience: float = PATIENCE_SECONDS) -> None:
        """Wait until it has ended; kill it after `patience` seconds."""
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
