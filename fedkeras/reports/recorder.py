"""The recorder is the callback that keeps what each round of a run gave, and shows it."""

import logging
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from fedkeras.callbacks import Callback, Callbacks, FinishedRound, Row
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.reports.curves import drawn, plot_curves
from fedkeras.reports.headline import choose_headline
from fedkeras.reports.history import FAILURES, TIMING, WARNINGS, History, read_rows
from fedkeras.reports.live_report import LiveReport
from fedkeras.reports.report import ReportSection, write_report
from fedkeras.reports.run_folder import Json, JsonTable, RunFolder
from fedkeras.reports.summary import ending, summarise
from fedkeras.reports.terminal import Terminal
from fedkeras.reports.trackers import trackers_of

log = logging.getLogger(__name__)


class Recorder(Callback):
    """Writes history.csv and the trackers' figures round by round; summary.json, curves.png and report.html at the end.

    As a context manager: a run that is left by an exception gets a summary whose status says so.

        with Recorder(folder, config) as recorder:
            callbacks = Callbacks([recorder, recorder.live_view])
            ...  # callbacks.on_round_end(result) after each round
            recorder.finish(num_weights=6_603_710)
    """

    def __init__(
        self,
        folder: RunFolder,
        config: Config,
        live: bool | None = None,
        before: float = 0.0,
        sections: Callable[[], Sequence[ReportSection]] = tuple,
    ) -> None:
        """`live`: force or forbid the live table; None: where stdout is a terminal.

        `before`: seconds that earlier parts of a resumed run have taken, which the summary adds. `sections` gives what
        the run's workflow and mods add to report.html; it is called from the run's own thread, also when it has ended.
        Raises UserError if a tracker is wanted (--tensorboard, --mlflow) that cannot begin.
        """
        self._folder = folder
        self._config = config
        self._sections = sections
        self._trackers = trackers_of(folder, config)
        self._live_report = LiveReport(folder, sections)
        self._history = History(folder.history_path)
        self._terminal = Terminal(config.num_server_rounds, config.num_partitions, live, config.node_timeout)
        self._warned = {str(row["about"]) for row in WARNINGS.read(folder.warnings_path)}
        self._before = before
        self._started = time.perf_counter()
        self._finished = False

    def __enter__(self) -> "Recorder":
        self._started = time.perf_counter()
        self._live_report.start()
        self._terminal.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        try:
            if not self._finished:
                self._leave("failed" if kind and issubclass(kind, Exception) else "interrupted", error)
        finally:
            self._close()

    @property
    def live_view(self) -> Callback:
        """The callback to hang on the run beside the recorder, and after it: it shows the run under way.

        On the terminal, and as report.html.
        """
        return Callbacks([self._terminal.live_view, self._live_report])

    @property
    def seconds(self) -> float:
        """Wall time of the run until now, over all its parts."""
        return self._before + time.perf_counter() - self._started

    @property
    def columns(self) -> list[str]:
        """The columns that history.csv has."""
        return self._history.columns

    @property
    def history_rows(self) -> int:
        """How many rows history.csv has."""
        return self._history.num_rows

    def on_round_end(self, result: FinishedRound) -> bool:
        """Keep and show one round; it never ends the run. Raises UserError if the disk takes no more."""
        self._history.append(result.rows)
        failures = [{"client": str(cid), "reason": reason} for cid, reason in result.failures.items()]
        FAILURES.append(self._folder.failures_path, [{"round": result.round, **failure} for failure in failures])
        timing = {"round": result.round, **result.timing, "seconds": result.seconds}
        TIMING.append(self._folder.timing_path, [timing] if result.timing else [])
        for tracker in self._trackers:
            tracker.append(result.rows)
        for cid, reason in result.failures.items():
            log.info("round %d: client %s failed: %s", result.round, cid, reason)
        answered = f"{result.answered} of {result.asked} clients answered, " if result.asked else ""
        log.info("round %d of %d: %s%.3f s", result.round, result.num_rounds, answered, result.seconds)
        self._terminal.print_round(result)
        return False

    def warn(self, server_round: int, about: str, text: str) -> None:
        """Say what is wrong with the run's results, once for each `about`, a word or two.

        It goes to the terminal, the log, the report and summary.json. Round 0 is before the first one.
        """
        if about in self._warned:
            return
        self._warned.add(about)
        log.warning("%s", text)
        WARNINGS.append(self._folder.warnings_path, [{"round": server_round, "about": about, "warning": text}])

    def finish(self, status: str = "finished", **more: Json) -> dict[str, Json]:
        """Write summary.json, curves.png and report.html, print the end of the run, and return the summary.

        `status` is one of summary.STATUSES; `more` goes into the summary (num_weights, ...).
        """
        self._finished = True
        rows = read_rows(self._folder.history_path)
        if warnings := WARNINGS.read(self._folder.warnings_path):
            more["warnings"] = [str(row.get("warning", "")) for row in warnings]
        summary = summarise(self._config, rows, self.seconds, status, **more)
        self._folder.write_summary(summary)  # before the picture: figures first, should anything break
        self._terminal.close()
        if summary["source"] and summary["rounds"] and drawn(rows):  # a lone round 0 is no curve
            plot_curves(self._folder.history_path, self._folder.curves_path)
        self._report()
        self._end_trackers(summary, rows)
        log.info("%s in %.1f s", status, summary["seconds"])
        for line in ending(summary, rows, self._folder.path):
            print(line, flush=True)
        return summary

    def _end_trackers(self, summary: JsonTable, rows: list[Row]) -> None:
        headline, folder = choose_headline(rows), self._folder
        files = folder.report_path, folder.curves_path, folder.config_path, folder.summary_path, folder.history_path
        for tracker in self._trackers:
            tracker.finish(summary, headline.select(rows) if headline else [], files)
        self._close()

    def _report(self) -> None:
        """A page that cannot be drawn is no reason to lose a run: its figures are written by then."""
        started = time.perf_counter()
        try:
            sections = self._sections()
        except Exception as error:  # noqa: BLE001 - whatever a workflow's or a mod's code raises
            log.warning("report.html lacks its additional sections: %s: %s", type(error).__name__, error)
            sections = ()
        try:
            write_report(self._folder, sections=sections)
        except Exception as error:  # noqa: BLE001 - whatever it is
            again = f"python -m fedkeras report {self._folder.path}"
            log.warning("no report.html: %s: %s; to try again: %s", type(error).__name__, error, again)
        else:
            log.info("report.html: %.3f s", time.perf_counter() - started)

    def _leave(self, status: str, error: BaseException | None) -> None:
        """The exception on its way out is the one to show: a disk that is full as well is only noted."""
        log.info("%s: %s", status, f"{type(error).__name__}: {error}" if error else "left before the end")
        try:
            self.finish(status)
        except UserError as second:
            if error is None:
                raise
            log.warning("%s", second)

    def _close(self) -> None:
        self._terminal.close()
        while self._trackers:
            self._trackers.pop().close()
