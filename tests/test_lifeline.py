"""A process ends with the command that has started it, however that one ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows hands no descriptors on")

CHILD = "import time; from fedkeras import lifeline; lifeline.follow(); print('up', flush=True); time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + CHILD.replace("follow()", "follow(0.2)")
PARENT = """
import subprocess, sys, time
from fedkeras import lifeline
options = lifeline.tied() if sys.argv[2] == "tied" else {}
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, **options)
print(child.pid, child.stdout.readline().decode().strip(), flush=True)
time.sleep(60)
"""


def gone(pid: int, seconds: float) -> bool:
    """Whether the process has ended within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if ") Z " in Path(f"/proc/{pid}/stat").read_text():
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(("child", "how", "ends"), [(CHILD, "tied", 1), (STUBBORN, "tied", 1), (CHILD, "free", 0)])
def test_a_killed_command_takes_its_processes_along(child: str, how: str, ends: bool) -> None:
    root = str(Path(__file__).resolve().parents[1])
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, child, how],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
        text=True,
    )
    with parent:
        pid, word = parent.stdout.readline().split()
        parent.kill()
    assert word == "up"
    try:
        assert gone(int(pid), 20 if ends else 1) == ends
    finally:
        if not ends:
            os.kill(int(pid), signal.SIGKILL)
