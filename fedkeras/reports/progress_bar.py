"""The progress of a client on its own terminal: one bar for each client of the process; elsewhere plain lines.

A stage is work that takes a while: receiving the data, training, delivering. Its bar stands below everything else that
is printed, and leaves a line behind when the stage is over. Rounds have one bar for the whole process, and lines of
their own (round_lines.py).
"""

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedkeras.reports.live import A_SECOND, can_draw
from fedkeras.reports.progress_table import ProgressTable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

ROUNDS = -1
"""In place of a client's number: the stage of rounds, which is the process's."""


@dataclass
class Stage:
    """`name` is the kind of work; `task` is rich's number of its bar; `result` is what its last line says of it."""

    name: str
    task: "TaskID"
    started: float
    result: str = ""

    @property
    def seconds(self) -> float:
        """Since it began, never 0."""
        return max(time.monotonic() - self.started, 1e-3)


class ProgressBar:
    """The bars of a process; its methods may be called from any thread.

    `live`: force or forbid the bars; None: where stdout is a terminal.
    """

    def __init__(self, live: bool | None = None) -> None:
        self._live = can_draw(live)
        self._lines = ProgressTable(live=False)
        self._lock = threading.Lock()
        self._bars: Progress | None = None
        self._stages: dict[int, Stage] = {}

    @property
    def draws(self) -> bool:
        """Whether there are bars; else there are lines."""
        return self._live

    def in_rounds(self, title: str, doing: str, done: float, total: int) -> None:
        """`done` of `total` rounds; `title` is "round 3/10". Elsewhere than on a terminal nothing: lines say it."""
        if not self._live:
            return
        with self._lock:
            stage = self._stage(ROUNDS, title, "rounds")
            self._bars.update(stage.task, description=title, completed=done, total=total, note=doing)

    def moved(self, cid: int, name: str, done: int, total: int) -> None:
        """`done` of `total` bytes have moved: "receiving data". With the last one the stage is over."""
        if not self._live:
            self._lines.say(cid, f"{name} {100 * done // max(1, total)} %")
            return
        from rich.filesize import decimal

        with self._lock:
            stage = self._stage(cid, f"client {cid}: {name}", name)
            much = decimal(total) if done >= total else f"{decimal(done)} of {decimal(total)}"
            stage.result = f"{much} in {stage.seconds:.1f} s"
            speed = f"{decimal(done)} of {decimal(total)}, {decimal(int(done / stage.seconds))}/s"
            self._bars.update(stage.task, completed=done, total=total, note=speed)
            if done >= total:
                self._end(cid)

    def trained(self, cid: int, state: str, done: int, total: int, note: str = "") -> None:
        """`done` of `total` epochs; `state` is that in words ("fold 2/5, epoch 3/10"), `note` the figures so far.

        The stage is over when `over` is called.
        """
        if not self._live:
            self._lines.say(cid, state)
            return
        with self._lock:
            stage = self._stage(cid, f"client {cid}: training", "training")
            if note:
                stage.result = f"{state.removeprefix('training ')}, {note}, {stage.seconds:.1f} s"
            shown = f"{state.removeprefix('training').strip()}{', ' * bool(note)}{note}"
            self._bars.update(stage.task, completed=done, total=total, note=shown)

    def over(self, cid: int) -> None:
        """The stage ends here, wherever it stands: a training that stopped early, a run that broke."""
        with self._lock:
            self._end(cid)

    def close(self) -> None:
        """There is no more to come: the terminal gets its cursor back."""
        with self._lock:
            for cid in list(self._stages):
                self._end(cid)

    def _stage(self, cid: int, title: str, name: str) -> Stage:
        """The stage of this name, which ends the client's stage before; `title` stands before its bar."""
        stage = self._stages.get(cid)
        if stage is not None and stage.name == name:
            return stage
        self._end(cid)
        if self._bars is None:
            self._bars = _bars()
            self._bars.start()
        task = self._bars.add_task(title, total=None, note="")
        self._stages[cid] = Stage(name, task, time.monotonic())
        return self._stages[cid]

    def _end(self, cid: int) -> None:
        stage = self._stages.pop(cid, None)
        if stage is None:
            return
        self._bars.remove_task(stage.task)
        if not self._stages:  # the bar goes before the line comes: what is printed afterwards starts at the margin
            self._bars.stop()
            self._bars = None
        if stage.result:
            print(f"client {cid}: {stage.name}: {stage.result}", flush=True)


def _bars() -> "Progress":
    from rich import progress  # here: a client whose output is a file does without rich

    return progress.Progress(
        progress.SpinnerColumn("line"),  # an epoch may be long, and the bar stands still meanwhile
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=24),
        progress.TaskProgressColumn(),
        progress.TextColumn("{task.fields[note]}"),
        progress.TimeRemainingColumn(compact=True),
        transient=True,
        refresh_per_second=A_SECOND,
    )


shown = ProgressBar()
"""This process's bars, on which the handlers of messages and the thread that trains show what they do."""
