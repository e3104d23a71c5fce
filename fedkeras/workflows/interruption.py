"""Ctrl-C and SIGTERM: once, and the round is finished and kept; twice, or while no round is under way, and it ends."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Protocol


class Outcome(Protocol):
    """What is looked at of a round."""

    round: int


class Interruption:
    """Asked whether to stop after a round (`asked()`); the handler of both signals once `watch` was called.

    Without `watch` (in a simulation signals are Flower's) it never stops anything.
    """

    def __init__(self) -> None:
        self._round = 0
        self._then = ""
        self._asked = False

    def watch(self) -> None:
        """Handle signals from now on; only the main thread may."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._came)

    @contextlib.contextmanager
    def rounds(self, first: int, then: str = "") -> Iterator[None]:
        """While rounds run, beginning with this one, the first signal lets the current one finish, `then` it ends."""
        self._round, self._then = first, then
        try:
            yield
        finally:
            self._round = 0

    def round_finished(self, outcome: Outcome) -> None:
        """The next round begins."""
        self._round = outcome.round + 1

    def asked(self) -> bool:
        """True once somebody has asked for the end."""
        return self._asked

    def _came(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked or not self._round:
            raise KeyboardInterrupt
        self._asked = True
        text = f"server.py: finishing round {self._round}{self._then}; Ctrl-C again ends at once\n"
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except RuntimeError:  # the signal came in the middle of another write
            os.write(2, text.encode())
