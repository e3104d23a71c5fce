"""What a comparison says while it works: a line for each part that ends, and meanwhile its rounds."""

import os
import sys
import time

from fedkeras.compare.arm_run import ArmResult, ArmRun
from fedkeras.reports.headline import figure

SILENT_SECONDS = 30.0
"""Where stdout is no terminal, a line says that a part is still at work once in so many seconds."""


class ComparisonProgress:
    """A bar a part on a terminal; elsewhere plain lines. A context manager."""

    def __init__(self, parts: int, finished: int, live: bool | None = None) -> None:
        """`parts` there are, and `finished` of them were before. `live` forces or forbids bars."""
        self._parts, self._finished = parts, finished
        self._live = sys.stdout.isatty() and os.environ.get("TERM") != "dumb" if live is None else live
        self._bars, self._tasks = None, {}
        self._said = time.monotonic()

    def __enter__(self) -> "ComparisonProgress":
        if self._live:
            from rich import progress

            columns = (progress.TextColumn("{task.description}"), progress.BarColumn(bar_width=30))
            columns += (progress.MofNCompleteColumn(), progress.TextColumn("rounds"), progress.TimeElapsedColumn())
            self._bars = progress.Progress(*columns)
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            self._bars.stop()

    def rounds(self, part: ArmRun, done: int, total: int) -> None:
        """So many of a part's rounds are over; of `local`, of all clients together."""
        if self._bars:
            if part.title not in self._tasks:
                self._tasks[part.title] = self._bars.add_task(part.title, total=total)
            self._bars.update(self._tasks[part.title], completed=done)
        elif done and time.monotonic() - self._said > SILENT_SECONDS:
            self.say(f"{part.title}: {done} of {total} rounds")

    def finished(self, result: ArmResult) -> None:
        """A part is done."""
        self._finished += 1
        self._close(f"{result.arm}, seed {result.seed}")
        accuracy = "" if result.accuracy is None else f"accuracy {result.accuracy:.4f}, "
        told = f"{accuracy}loss {figure(result.loss)}, {result.seconds:.1f} s"
        self.say(f"{result.arm}, seed {result.seed}: {told} ({self._finished} of {self._parts})")

    def failed(self, part: ArmRun, reason: str) -> None:
        """A part is not to be had."""
        self._close(part.title)
        self.say(f"{part.title} failed: {' '.join(reason.split())}")

    def say(self, line: str) -> None:
        """A line above the bars."""
        self._said = time.monotonic()
        if self._bars:
            self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, flush=True)

    def _close(self, title: str) -> None:
        if self._bars and title in self._tasks:
            self._bars.remove_task(self._tasks.pop(title))
