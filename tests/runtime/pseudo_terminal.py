"""A command on a pseudo-terminal, as a person uses it: wait for a text, type an answer, look at the screen."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300.0
"""Seconds that no healthy step takes, even with other work on the machine."""

DECIDE_HOW_TO_DRAW = ("COLUMNS", "LINES", "NO_COLOR", "CI")
"""Variables of the surroundings that would change what is drawn."""

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """`shown` is all that was written so far, control sequences and all; `size` is lines and columns."""

    def __init__(
        self,
        folder: Path,
        script: Path | str,
        *flags: object,
        environment: Mapping[str, str] | None = None,
        size: tuple[int, int] = (40, 120),
    ) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        command = [sys.executable, str(script), *map(str, flags)]
        inherited = {name: value for name, value in os.environ.items() if name not in DECIDE_HOW_TO_DRAW}
        path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))  # this checkout's code
        own = {**inherited, "TERM": "xterm", "FLWR_TELEMETRY_ENABLED": "0", "PYTHONPATH": path, **(environment or {})}
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=own, start_new_session=True
        )
        os.close(theirs)
        self.shown, self._seen = "", 0

    @property
    def text(self) -> str:
        """What was shown, without control sequences."""
        return CONTROL.sub("", self.shown).replace("\r", "")

    def wait_for_drawn(self, pattern: str) -> None:
        """Wait until `text` has the pattern somewhere: in a picture that is drawn again and again."""
        deadline = time.monotonic() + PATIENCE
        while not re.search(pattern, self.text):
            assert time.monotonic() < deadline, f"no '{pattern}' in: {self.text[-2000:]}"
            assert self.process.poll() is None, f"ended without '{pattern}': {self.text[-2000:]}"
            self.read(1.0)

    def answer(self, question: str, text: str) -> None:
        """Wait for the question and type the answer."""
        self.wait(question)
        os.write(self._ours, f"{text}\n".encode())

    def wait(self, text: str) -> None:
        """Wait until `text` is shown, after what was waited for before."""
        deadline = time.monotonic() + PATIENCE
        while (found := self.shown.find(text, self._seen)) < 0:
            assert time.monotonic() < deadline, f"no '{text}' in: {self.shown[self._seen :]}"
            ended = self.process.poll() is not None
            self.read(1.0)
            assert not ended or text in self.shown[self._seen :], f"ended without '{text}': {self.text[-2000:]}"
        self._seen = found + len(text)

    def read(self, seconds: float = 0.0) -> None:
        """Take what is there, waiting so long for it: who writes to a terminal that nobody reads stands still."""
        while select.select([self._ours], [], [], seconds)[0]:
            try:
                content = os.read(self._ours, 65536)
            except OSError:  # the other side has been closed
                return
            if not content:
                return
            self.shown, seconds = self.shown + content.decode(errors="replace"), 0.0

    def close(self) -> None:
        """End the process if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)


def all_ended(*terminals: Terminal) -> list[int]:
    """Read them all until each process has ended; their exit statuses."""
    deadline = time.monotonic() + PATIENCE
    while any(terminal.process.poll() is None for terminal in terminals):
        assert time.monotonic() < deadline, [terminal.text[-2000:] for terminal in terminals]
        for terminal in terminals:
            terminal.read(0.05)
    for terminal in terminals:
        terminal.read()
    return [terminal.process.returncode for terminal in terminals]
