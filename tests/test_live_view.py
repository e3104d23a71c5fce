"""The live table of real runs on a pseudo-terminal: over gRPC with three clients and a Ctrl-C, and in a simulation."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROW = re.compile(r" {4}(\d)  +\d\.\d{4}  +\d\.\d{4}  +\d+\.\d\d  +3/3\n")


class Screen:
    """A command on a terminal of 80 x 24; `text` is all that it has drawn, without colours and cursor movements."""

    def __init__(self, *command: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        gone = ("COLUMNS", "LINES", "NO_COLOR", "CI")
        environment = {name: value for name, value in os.environ.items() if name not in gone} | {"TERM": "xterm"}
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
        self.process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=environment, start_new_session=True, **streams
        )
        os.close(theirs)
        self.raw = b""

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", self.raw.decode(errors="replace"))

    def wait(self, pattern: str, seconds: float = 90) -> None:
        """Read until the pattern has been drawn."""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            assert time.monotonic() < deadline, f"no '{pattern}' in: {self.text[-2000:]}"
            assert self._read(), f"ended without '{pattern}': {self.text[-2000:]}"

    def end(self, seconds: float = 90) -> int:
        """Read to the end; the exit status."""
        deadline = time.monotonic() + seconds
        while self._read():
            assert time.monotonic() < deadline, f"does not end: {self.text[-2000:]}"
        return self.process.wait(30)

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._ours)

    def _read(self) -> bool:
        if not select.select([self._ours], [], [], 1)[0]:
            return True
        try:
            part = os.read(self._ours, 65536)
        except OSError:  # how Linux says that the other side is closed
            return False
        self.raw += part
        return bool(part)


def test_three_clients_over_grpc_and_a_ctrl_c(tmp_path: Path) -> None:
    flags = ["--port", "0", "--spawn", "3", "--num-server-rounds", "9", "--local-epochs", "15"]
    screen = Screen("server.py", *flags, "--run-dir", str(tmp_path))
    try:
        screen.wait(r"waiting for clients  0 of 3 connected")
        screen.wait(r"round 2 of 9  training  \d/3 answered")
        os.kill(screen.process.pid, signal.SIGINT)
        status = screen.end()
    finally:
        screen.close()
    text = screen.text
    assert status == 130 and "Ctrl-C again ends at once" in text and "to go on: python server.py --resume" in text
    assert re.search(r"^ {5}2  \w+ +\d\.\d{4} +\d\.\d{4} +\d\.\d{4} +\d+\.\d\d *$", text, re.MULTILINE)
    assert re.search(r"1/9 rounds  0:00:\d\d, some 0:0\d:\d\d left", text)
    rows = [int(number) for number in ROW.findall(text)]
    assert rows == list(range(1, len(rows) + 1)) and len(rows) >= 2
    assert text.count("round   loss (central)") == 1, "the finished rounds are printed once, not drawn again"
    last = screen.raw.rfind(b"\x1b[?25h")
    assert last > 0 and b"training  " not in screen.raw[last:], "the cursor is given back, and the table has gone"
    assert re.search(r"(?m)^interrupted in \d+\.\d s$", text) and "Traceback" not in text


@pytest.mark.slow
def test_a_simulation_has_the_same_table(tmp_path: Path) -> None:
    flags = ["--num-server-rounds", "3", "--local-epochs", "30", "--run-dir", str(tmp_path)]
    screen = Screen("-m", "fedkeras", "simulate", *flags)
    try:
        status = screen.end(300)
    finally:
        screen.close()
    text = screen.text
    assert status == 0, text[-2000:]
    assert re.search(r"round 2 of 3  (training|evaluating|aggregating)", text)
    assert re.search(r"^ {5}2  \w+ +\d\.\d{4} +\d\.\d{4} +\d\.\d{4} ", text, re.MULTILINE)
    assert [int(number) for number in ROW.findall(text)] == [1, 2, 3]
    assert re.search(r"(?m)^finished in \d+\.\d s$", text)
