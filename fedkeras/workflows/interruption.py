"""Ctrl-C and SIGTERM: once, and the round is finished and kept; twice, or while no round is under way, and it ends."""

import os
import signal
import sys
from types import FrameType

from fedkeras.callbacks import Callback, FinishedRound
from fedkeras.workflows.base import RunContext


class StopRequested(KeyboardInterrupt):
    """Raised after a round in which somebody asked for the end; the state is that of the finished round."""


class Interruption(Callback):
    """The handler of both signals once `watch` was called; as a callback of rounds it ends them after that under way.

    Without `watch` (in a simulation signals are Flower's) it never stops anything.
    """

    def __init__(self) -> None:
        self._round = 0
        self._then = ""
        self._requested = False

    def watch(self) -> None:
        """Handle signals from now on; only the main thread may."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._came)

    def on_run_begin(self, run: RunContext) -> None:
        """From now on the first signal lets the current round finish."""
        done = run.start.round if run.start else 0
        self._round = done + 1 if done < run.config.num_server_rounds else 0
        self._then = ", then a checkpoint" if run.config.checkpoint_every else ""

    def on_round_end(self, result: FinishedRound) -> bool:
        """The next round begins. Raises StopRequested if it is not to."""
        over = result.round >= result.num_rounds
        self._round = 0 if over else result.round + 1
        if self._requested and not over:
            raise StopRequested
        return False

    def on_rounds_end(self) -> None:
        """No round is under way."""
        self._round = 0

    def _came(self, _number: int, _frame: FrameType | None) -> None:
        if self._requested or not self._round:
            raise KeyboardInterrupt
        self._requested = True
        text = f"server.py: finishing round {self._round}{self._then}; Ctrl-C again ends at once\n"
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except RuntimeError:  # the signal came in the middle of another write
            os.write(2, text.encode())
