"""Ending a process and all below it, without leftovers.

Flower's SuperLink starts a SuperExec in a session of its own, that the simulation, and that Ray's daemons: a signal to
one process group does not reach them, and whoever outlives its parent is found by nobody. psutil is not installed.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path


def end_tree(process: subprocess.Popen, patience: float) -> None:
    """Ask `process` to end and wait until it and its descendants are gone; kill those left after `patience` seconds.

    A KeyboardInterrupt meanwhile (a second Ctrl-C) ends the patience, not the work.
    """
    if os.name == "nt":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False)
        process.wait()
        return
    members, deadline = descendants([process.pid]), time.monotonic() + patience
    process.terminate()
    while process.poll() is None or members & _parents().keys():
        members |= descendants(members)
        try:
            if time.monotonic() > deadline:
                _kill(members & _parents().keys())
            time.sleep(0.1)
        except KeyboardInterrupt:
            deadline = 0.0


def descendants(pids: Iterable[int]) -> set[int]:
    """Those of `pids` that are alive, their children, and so on."""
    parents, found = _parents(), set()
    new = {pid for pid in pids if pid in parents}
    while new:
        found |= new
        new = {pid for pid, parent in parents.items() if parent in found} - found
    return found


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _parents() -> dict[int, int]:
    """{process id: its parent's} of all processes; those that ended and were not waited for (zombies) are left out."""
    if Path("/proc/self/stat").exists():
        lines = [_stat(folder / "stat") for folder in Path("/proc").iterdir() if folder.name.isdecimal()]
    else:
        listed = subprocess.run(["ps", "-A", "-o", "pid=,state=,ppid="], capture_output=True, text=True, check=True)
        lines = [line.split() for line in listed.stdout.splitlines()]
    return {int(pid): int(parent) for pid, state, parent in filter(None, lines) if not state.startswith("Z")}


def _stat(path: Path) -> list[str]:
    """Process id, state and parent; the name between them, in brackets, may hold anything. []: it is gone."""
    try:
        before, _, after = path.read_text(errors="replace").rpartition(")")
    except OSError:
        return []
    return [before.split(" ")[0], *after.split()[:2]]
