"""report.html while the run goes on: a window to leave open, which reloads itself and needs no server.

The page is drawn anew when something has happened, at most every few seconds, and for under a hundredth of the run's
time: what drawing has taken is measured, and with it when it may be drawn again. The first page is drawn while clients
join. It is written in the run's own thread, in one step; whatever goes wrong with it costs the page and not the run.
"""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from fedkeras.callbacks import Callback, FinishedRound, Row
from fedkeras.checkout import typed
from fedkeras.reports.page import Reload, ReportSection
from fedkeras.reports.report import write_report
from fedkeras.reports.run_folder import RunFolder

log = logging.getLogger(__name__)

EVERY_SECONDS = 5.0
"""The least time from one page to the next, and after which a browser reads it again."""
SHARE = 0.01
"""Of the run's time, what drawing may take together."""


class LiveReport(Callback):
    """Draws the page at the `start` and after rounds; the last one, which reloads itself no more, is the recorder's."""

    def __init__(
        self,
        folder: RunFolder,
        sections: Callable[[], Sequence[ReportSection]] = tuple,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._sections, self._clock = folder, sections, clock
        self._started = clock()
        self._ended: float | None = None
        """When the last page was done; None: there is none yet."""
        self._took = 0.0
        """The last page's seconds: the next one will take as long."""
        self._drawn, self._spent = 0, 0.0
        self._news, self._works = True, True

    def start(self) -> None:
        """The first page, before anybody has come: it takes no time of the run's own.

        Drawn twice, for the first time loads what draws it, and the second says what a page takes from then on.
        """
        self._draw()
        self._draw()
        self._started, self._spent = self._clock(), 0.0

    def on_phase_begin(
        self, server_round: int, phase: str, cohort: Collection[int], suspended: Collection[int]
    ) -> None:
        """A chance to draw what was not drawn as it happened."""
        self._draw_if_due()

    def on_client_result(self, cid: int, row: Row) -> None:
        """The same; a run that collects has nothing else to tell before its end."""
        self._news = True
        self._draw_if_due()

    def on_round_end(self, result: FinishedRound) -> bool:
        """A round is in history.csv. It never ends the run."""
        self._news = True
        self._draw_if_due()
        return False

    def on_rounds_end(self) -> None:
        """Say in the log what it has cost."""
        share = 100 * self._spent / max(self._clock() - self._started, 1e-9)
        log.info("report.html during the run: %d times, %.3f s, %.2f %% of it", self._drawn, self._spent, share)

    @property
    def wait(self) -> float:
        """Seconds until the page may be drawn again, if it takes as long as the last time."""
        if self._ended is None:
            return 0.0
        now = self._clock()
        affordable = self._started + (self._spent + self._took) / SHARE
        return max(0.0, self._ended + EVERY_SECONDS - now, affordable - now)

    def _draw_if_due(self) -> None:
        if self._news and self._ended is not None and self.wait == 0.0:
            self._draw()

    def _draw(self) -> None:
        if not self._works:
            return
        before = self._clock()
        try:
            sections = self._sections()
        except Exception:  # noqa: BLE001 - a section of somebody's may need what there is at the end alone
            log.debug("no additional sections yet", exc_info=True)
            sections = ()
        try:
            write_report(self._folder, sections=sections, reload=Reload(round(EVERY_SECONDS), self._note()))
        except Exception as error:  # noqa: BLE001 - whatever the disk or a drawing raises
            self._works = False
            log.warning("report.html is not drawn during the run: %s: %s", type(error).__name__, error)
        self._ended, self._news = self._clock(), False
        self._took = self._ended - before
        self._drawn, self._spent = self._drawn + 1, self._spent + self._took

    def _note(self) -> str:
        """What the page says of itself, for whoever finds it long after."""
        return (
            f"Drawn {datetime.now():%Y-%m-%d %H:%M:%S}. The run goes on: this page is drawn again after rounds, and "
            "reloads itself until the run has ended. If it stays as it is for longer than a round can take, the run "
            f"was killed: `{typed('report', self._folder.path)}` draws how far it came."
        )
