"""Every client's state in one live table on a terminal, and in plain lines elsewhere."""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fedkeras.errors import one_line
from fedkeras.reports.live import can_draw

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

STEP = 25
"""Where there is no terminal, percentages are printed in steps of this many, so that a log stays readable."""
PAUSE = 2.0
"""There, epochs (3/10) are printed at most once in so many seconds."""


class ProgressTable:
    """`say(cid, state)` at any time; the table is shown while it is used as a context manager."""

    def __init__(self, live: bool | None = None) -> None:
        self._live = can_draw(live)
        self._states: dict[int, str] = {}
        self._since: dict[int, float] = {}
        self._printed: dict[int, float] = {}
        self._table: Live | None = None
        self._depth = 0

    def __enter__(self) -> "ProgressTable":
        self._depth += 1
        if self._live and self._depth == 1:
            from rich.errors import LiveError
            from rich.live import Live

            self._table = Live(get_renderable=self._render, transient=True)
            try:
                self._table.start()
            except LiveError:  # rich before 14.1 shows one live thing at a time, and the bar of rounds is one
                self._table, self._live = None, False
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._table is not None and not self._depth:
            self._table.stop()
            self._table = None

    def expect(self, cids: Iterable[int]) -> None:
        """These clients are expected."""
        for cid in cids:
            self._states.setdefault(cid, "connecting")
            self._since.setdefault(cid, time.monotonic())

    def say(self, cid: int, state: str) -> None:
        """Note and show what a client does now, in words of its own or the server's."""
        before, state = self._states.get(cid), one_line(state)
        if state == before:
            return
        self._states[cid] = state
        self._since.setdefault(cid, time.monotonic())
        if not self._live and self._worth_a_line(cid, before or "", state):
            self._printed[cid] = time.monotonic()
            print(f"client {cid}: {state}", flush=True)

    def _render(self) -> "Table":
        """A state is the client's own words: brackets in it are no markup."""
        from rich.table import Table
        from rich.text import Text

        table = Table("client", "state", "seconds")
        for cid in sorted(self._states):
            table.add_row(str(cid), Text(self._states[cid]), f"{time.monotonic() - self._since[cid]:.0f}")
        return table

    def _worth_a_line(self, cid: int, before: str, state: str) -> bool:
        """Not each percent, and not each epoch of a fast training."""
        what, reached = _percents(state)
        if reached is not None:
            before_what, before_reached = _percents(before)
            return reached // STEP > (before_reached or 0 if before_what == what else 0) // STEP
        return "/" not in state or time.monotonic() - self._printed.get(cid, 0.0) > PAUSE


def _percents(state: str) -> tuple[str, int | None]:
    """`receiving data 25 %` as what is done and how far; all of it and None if it says no such thing."""
    what, _, end = state.removesuffix(" %").rpartition(" ")
    counts = state.endswith(" %") and end.isascii() and end.isdigit()
    return (what, int(end)) if counts else (state, None)
