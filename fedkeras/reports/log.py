"""run.log: all records of the loggers `fedkeras` and `flwr`, with times; the console gets warnings only.

Many of these records tell what other processes say. Whatever that is, here it becomes one printable line of bounded
length, and run.log a few files of bounded size.
"""

import contextlib
import logging
import logging.handlers
import sys
import threading
from pathlib import Path
from types import TracebackType

from fedkeras.errors import LONGEST, UserError, one_line

NAMES = ("fedkeras", "flwr")

ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
"""What sys.exc_info() gives."""

MAX_BYTES, KEPT = 10_000_000, 4
"""Size at which run.log becomes run.log.1, and how many of such older files are kept."""

TRACEBACK_LINES = 60
"""Lines of a traceback that are kept: the last ones, where the fault is."""


class CleanFormatter(logging.Formatter):
    """A record is one line, whatever was put into it; the lines of a traceback are indented, as no record's line is."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Put the cleaned message into the line."""
        record.message = one_line(record.message)
        return super().formatMessage(record)

    def formatException(self, error: ExceptionInfo) -> str:
        """The traceback's last lines, each cleaned and cut."""
        lines = super().formatException(error)[-TRACEBACK_LINES * LONGEST :].splitlines()[-TRACEBACK_LINES:]
        return "\n".join(f"    {one_line(line)}" for line in lines)


class _RunLog(logging.handlers.RotatingFileHandler):
    """Our own file, by its class distinct from one that Flower may have attached.

    What the disk refuses of it (`handleError`) is lost, and said once: a log is no reason to lose a run.
    """

    _said = False

    def handleError(self, record: logging.LogRecord) -> None:
        self._refused(sys.exc_info()[1])

    def close(self) -> None:
        try:
            super().close()
        except OSError as error:  # the last lines did not fit on the disk
            self._refused(error)
            logging.Handler.close(self)

    def _refused(self, error: BaseException | None) -> None:
        if not self._said:
            self._said = True
            reason = getattr(error, "strerror", None) or error
            _to_stderr(f"warning: cannot write {self.baseFilename}: {reason}; the run goes on, and its log lacks lines")


ON_TABLE = {"on_table": True}
"""`log.warning(..., extra=ON_TABLE)`: what the live table says too, so that above one it is not printed."""

table_is_drawn = threading.Event()
"""Set by the live table while it stands on the terminal."""


class Console(logging.Handler):
    """Writes to today's sys.stderr, which a progress bar may have replaced to keep lines above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        """A record as it is formatted."""
        _to_stderr(self.format(record))


class _Console(Console):
    """One line a record."""

    def emit(self, record: logging.LogRecord) -> None:
        """Not what the live table says."""
        if not (getattr(record, "on_table", False) and table_is_drawn.is_set()):
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {one_line(record.getMessage())}"


def _to_stderr(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # a terminal that is gone: there is nobody to tell
        print(line, file=sys.stderr, flush=True)


def show_warnings() -> None:
    """Show warnings on stderr, as while there is a run.log, also before and after: until the process ends.

    Flower's own console handler, which prints every step in colour, is taken off.
    """
    console = _Console(logging.WARNING)
    for name in NAMES:
        logger = logging.getLogger(name)
        for handler in [each for each in logger.handlers if _prints(each) or isinstance(each, _Console)]:
            logger.removeHandler(handler)
        logger.addHandler(console)


def start_log(path: Path) -> None:
    """Write what is logged from now on to `path`, and warnings also to stderr, instead of what stood before.

    Raises UserError if `path` cannot be written.
    """
    stop_log()
    try:
        file = _RunLog(path, encoding="utf-8", errors="replace", maxBytes=MAX_BYTES, backupCount=KEPT)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    file.delay = True  # of the next files: one that cannot be opened costs the line that was for it, and no more
    file.setFormatter(CleanFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    # Shown for as long as the log is written, unless a command has asked for that before.
    file.shows_warnings = not any(isinstance(each, _Console) for each in logging.getLogger(NAMES[0]).handlers)
    if file.shows_warnings:
        show_warnings()
    for name in NAMES:
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.addHandler(file)


def stop_log() -> None:
    """Close the log, so that a later run in this process does not write into it."""
    for name in NAMES:
        logger = logging.getLogger(name)
        logs = [each for each in logger.handlers if isinstance(each, _RunLog)]
        ended = [*logs, *(each for each in logger.handlers if isinstance(each, _Console) and _shown_by(logs))]
        for handler in ended:
            logger.removeHandler(handler)
            handler.close()


def _shown_by(logs: list[_RunLog]) -> bool:
    return any(log.shows_warnings for log in logs)


def _prints(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
