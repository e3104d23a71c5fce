"""The live view on a terminal: the table of live_table.py below all that is printed, four times a second.

In a simulation the server is in Flower's process, whose output is a pipe. There a `Relay` writes what happens to a file
that `python -m fedkeras simulate` names, and that command, which has the terminal, reads it by `following` and draws.
"""

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from fedkeras.callbacks import Callback, FinishedRound, Row
from fedkeras.reports.history import KEYS
from fedkeras.reports.live_state import LiveState
from fedkeras.reports.log import table_is_drawn

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.live import Live

log = logging.getLogger(__name__)

A_SECOND = 4
"""Pictures a second: enough for the eye, and nothing beside a round's work."""

RELAY = "FEDKERAS_LIVE"
"""The environment variable that names the file to which a simulation's server relays what happens."""


def can_draw(forced: bool | None = None) -> bool:
    """Whether stdout takes what is redrawn (bars, live tables): it is a terminal that can; or as `forced`."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb" if forced is None else forced


class LiveView:
    """Draws a state from `start` to `stop`; whatever is printed meanwhile stands above, and stays."""

    def __init__(self, state: LiveState, before_drawing: Callable[[], None] = lambda: None) -> None:
        self.state = state
        self._before = before_drawing
        self._live: Live | None = None

    def start(self) -> None:
        """Begin to draw."""
        from rich.live import Live  # here: a server whose output is a file does without rich

        self._live = Live(get_renderable=self._picture, refresh_per_second=A_SECOND, transient=True)
        self._live.start()
        table_is_drawn.set()

    def print_above(self, line: str) -> None:
        """Print a line above the table."""
        self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Take the table away: the finished rounds are what stays."""
        if self._live is not None:
            table_is_drawn.clear()
            self._live.stop()
            self._live = None

    def _picture(self) -> "Picture":
        self._before()
        return Picture(self.state.snapshot())


class Picture:
    """A state, drawn to fit the terminal as it is at that moment."""

    def __init__(self, state: LiveState) -> None:
        self._state = state

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from fedkeras.reports.live_table import lines

        yield from lines(self._state, options.max_width, console.size.height, options.ascii_only)


class Relay(Callback):
    """Writes the hooks' calls as lines of JSON: a method of LiveState and its arguments. For where nothing is drawn."""

    def __init__(self, path: Path) -> None:
        self._path: Path | None = path

    def on_clients(self, connected: Collection[int], needed: int) -> None:
        self._write("on_clients", list(connected), needed)

    def on_phase_begin(
        self, server_round: int, phase: str, cohort: Collection[int], suspended: Collection[int]
    ) -> None:
        self._write("on_phase_begin", server_round, phase, list(cohort), list(suspended))

    def on_client_result(self, cid: int, row: Row) -> None:
        self._write("on_client_result", cid, {name: value for name, value in row.items() if name not in KEYS})

    def on_client_failure(self, cid: int, reason: str) -> None:
        self._write("on_client_failure", cid, reason)

    def on_client_left_out(self, cid: int, reason: str) -> None:
        self._write("on_client_left_out", cid, reason)

    def on_round_end(self, result: FinishedRound) -> bool:
        self._write("end_round", result.round)
        return False

    def close(self) -> None:
        """The run is over."""
        self._write("close")

    def _write(self, method: str, *arguments: int | str | list[int] | Row) -> None:
        if self._path is None:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{json.dumps([method, *arguments])}\n")
        except OSError as error:
            log.warning("no live table any more: cannot write %s: %s", self._path, error.strerror or error)
            self._path = None


@contextlib.contextmanager
def following(path: Path, num_clients: int, num_rounds: int) -> Iterator[None]:
    """On a terminal, draw what another process's Relay writes to `path`; elsewhere do nothing."""
    if not can_draw():
        yield
        return
    path.touch()
    with path.open(encoding="utf-8") as file:
        state = LiveState(num_clients, num_rounds)
        view = LiveView(state, before_drawing=Follower(file, state).catch_up)
        view.start()
        try:
            yield
        finally:
            view.stop()


class Follower:
    """Reads what a Relay writes into a state, as far as it has come: `catch_up` before each picture."""

    def __init__(self, file: TextIO, state: LiveState) -> None:
        self._file, self._state, self._rest = file, state, ""

    def catch_up(self) -> None:
        """Take over what is new. The last line may be half written: it is kept until its end has come."""
        *whole, self._rest = (self._rest + self._file.read()).split("\n")
        for line in whole:
            method, *arguments = json.loads(line)
            getattr(self._state, method)(*arguments)
