"""run.log: all records of the loggers `fedkeras` and `flwr`, with times; the console gets warnings only."""

import logging
import sys
from pathlib import Path

from fedkeras.errors import UserError

NAMES = ("fedkeras", "flwr")


class _RunLog(logging.FileHandler):
    """Our own file, by its class distinct from one that Flower may have attached."""


class _Console(logging.Handler):
    """One line a record on today's sys.stderr, which a progress bar may have replaced to keep lines above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().split())
        print(f"{record.levelname.lower()}: {text}", file=sys.stderr, flush=True)


def start_log(path: Path) -> None:
    """Write what is logged from now on to `path`, and warnings also to stderr, instead of what stood before.

    Flower's own console handler, which prints every step in colour, is taken off. Raises UserError if `path` cannot
    be written.
    """
    stop_log()
    try:
        file = _RunLog(path, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    console = _Console(logging.WARNING)
    for name in NAMES:
        logger = logging.getLogger(name)
        for handler in [each for each in logger.handlers if _prints(each)]:
            logger.removeHandler(handler)
        logger.setLevel(logging.INFO)
        logger.addHandler(file)
        logger.addHandler(console)


def stop_log() -> None:
    """Close the log, so that a later run in this process does not write into it."""
    for name in NAMES:
        logger = logging.getLogger(name)
        for handler in [each for each in logger.handlers if isinstance(each, _Console | _RunLog)]:
            logger.removeHandler(handler)
            handler.close()


def _prints(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
