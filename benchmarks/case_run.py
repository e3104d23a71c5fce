"""One run of a case: a process of its own with a time limit, and the JSON of its last line."""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.case import Listed
from fedkeras import lifeline
from fedkeras.commands.guarded import guarded
from fedkeras.errors import one_line

ROOT = Path(__file__).resolve().parents[1]
END_SECONDS = 30.0
"""How long a run's processes may take to end, told to; the guard kills what is left after five."""


@dataclass(frozen=True)
class Outcome:
    """What came of a run: its figures (the JSON of its last line), or why there are none."""

    seconds: float
    cpu_seconds: float
    """Of all its processes that were waited for; on a busy machine it says better than `seconds` what a run costs."""
    figures: object = None
    fault: str = ""


def run(listed: Listed, limit: float | None = None) -> Outcome:
    """Run a case to its end; it is ended after `limit` seconds (None: the case's own). A Ctrl-C ends it, and is raised.

    A process that ends with another status than 0, or whose last line is no JSON, has no figures.
    """
    limit, started, spent = limit or listed.case.limit, time.monotonic(), _cpu_seconds()
    with tempfile.TemporaryDirectory(prefix="fedkeras-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        command = [sys.executable, "-m", listed.module, *listed.case.words(folder)]
        with (folder / "out").open("w+") as out, (folder / "err").open("w+") as err:
            process = subprocess.Popen(
                guarded(command), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
                **lifeline.tied(),
            )  # fmt: skip
            try:
                status = process.wait(limit)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                _end(process)
        took = round(time.monotonic() - started, 1), round(_cpu_seconds() - spent, 1)
        printed, complaint = (_tail(folder / each) for each in ("out", "err"))
    if status is None:
        return Outcome(*took, fault=f"was ended after {limit:.0f} s")
    if status:
        return Outcome(*took, fault=one_line(f"status {status}: {complaint or printed}"))
    try:
        figures = json.loads(printed)
    except ValueError:
        figures = None
    if not isinstance(figures, dict | list):
        return Outcome(*took, fault=one_line(f"its last line is no JSON: {printed!r}"))
    return Outcome(*took, figures)


def _cpu_seconds() -> float:
    """Of the processes that this one has started and that have ended, and of theirs."""
    times = os.times()
    return times.children_user + times.children_system


def _end(process: subprocess.Popen) -> None:
    """End the run's processes, all that it started among them; nothing where they have ended."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _tail(path: Path) -> str:
    """The last line that says something."""
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""
