"""What a comparison prints while it works: a line for each arm run that ends, and meanwhile its rounds."""

import time
from typing import TYPE_CHECKING

from fedkeras.compare.arm_run import ArmResult, ArmRun
from fedkeras.errors import one_line
from fedkeras.reports.headline import figure
from fedkeras.reports.live import can_draw

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SILENT_SECONDS = 30.0
"""Where stdout is no terminal, a line with the rounds of an arm run comes at most once in so many seconds."""


class ComparisonProgress:
    """A bar an arm run on a terminal; elsewhere plain lines. A context manager."""

    def __init__(self, runs: int, finished: int, live: bool | None = None) -> None:
        """`runs`: arm runs in all, of which `finished` were so before. `live` forces or forbids bars."""
        self._runs, self._finished = runs, finished
        self._live = can_draw(live)
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._last_line = time.monotonic()

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

    def rounds(self, run: ArmRun, done: int, total: int) -> None:
        """So many of an arm run's rounds are over; of `local`, those of all clients together."""
        if self._bars:
            if run.title not in self._tasks:
                self._tasks[run.title] = self._bars.add_task(run.title, total=total)
            self._bars.update(self._tasks[run.title], completed=done)
        elif done and time.monotonic() - self._last_line > SILENT_SECONDS:
            self.print_line(f"{run.title}: {done} of {total} rounds")

    def finished(self, result: ArmResult) -> None:
        """An arm run is finished."""
        self._finished += 1
        self._close(f"{result.arm}, seed {result.seed}")
        accuracy = "" if result.accuracy is None else f"accuracy {result.accuracy:.4f}, "
        loss = "its loss is no number, " if result.loss is None else f"loss {figure(result.loss)}, "
        if result.personal and result.own_accuracy is not None:
            accuracy, loss = f"own models' accuracy {result.own_accuracy:.4f}, ", ""
        figures = f"{accuracy}{loss}{result.seconds:.1f} s"
        self.print_line(f"{result.arm}, seed {result.seed}: {figures} ({self._finished} of {self._runs})")

    def failed(self, run: ArmRun, reason: str) -> None:
        """An arm run has failed."""
        self._close(run.title)
        self.print_line(f"{run.title} failed: {one_line(reason)}")

    def print_line(self, line: str) -> None:
        """A line above the bars."""
        self._last_line = time.monotonic()
        if self._bars:
            self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, flush=True)

    def _close(self, title: str) -> None:
        if self._bars and title in self._tasks:
            self._bars.remove_task(self._tasks.pop(title))
