"""TensorBoard event files of a run, written by tensorboardX so that the server need not import TensorFlow.

A tag is phase/metric/client: `evaluate/accuracy/server`, `train/loss/client-2`; the step is the round. The HPARAMS tab
gets a session a run: all settings but those of the server's machine and unset ones, and the figures of FINAL.
"""

from collections.abc import Iterable
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING

from fedkeras.callbacks import Row
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.reports.headline import best, finite
from fedkeras.reports.history import AGGREGATES
from fedkeras.reports.run_folder import JsonTable

if TYPE_CHECKING:
    from tensorboardX.proto.summary_pb2 import Summary

NO_METRIC = ("round", "client", "phase")
FINAL = ("final/accuracy", "final/loss", "best/accuracy", "best/loss")
"""Scalars at the end of a run, from where summary.json takes its figures; `best` is of the best round."""


class TensorBoard:
    """The writer of one run's event files. Raises UserError at once, before any training, without tensorboardX."""

    def __init__(self, path: Path, config: Config) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise UserError("--tensorboard needs the extra: pip install 'fedkeras[tensorboard]'") from None
        try:
            self._writer = SummaryWriter(str(path))
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error
        from tensorboardX.summary import hparams

        settings = {name: value for name, value in config.for_clients().items() if value != ""}
        experiment, begin, self._end = hparams(settings, dict.fromkeys(FINAL, 0.0))
        self._write(experiment, begin)

    def append(self, rows: Iterable[Row]) -> None:
        """Write the numbers of these history rows as scalars, and flush."""
        for tag, value, step in scalars(rows):
            self._writer.add_scalar(tag, value, step)
        self._writer.flush()

    def finish(self, summary: JsonTable, headline_rows: Iterable[Row], _paths: Iterable[Path]) -> None:
        """Write the figures of the HPARAMS tab, and that the run came to its end, if it did."""
        for tag, value in final_figures(headline_rows).items():
            self._writer.add_scalar(tag, value, int(summary["rounds"]))
        if summary["status"] == "finished":
            self._write(self._end)
        self._writer.flush()

    def close(self) -> None:
        """Close the file; nothing is written after it."""
        self._writer.close()

    def _write(self, *summaries: "Summary") -> None:
        for each in summaries:
            self._writer.file_writer.add_summary(each)
        self._writer.flush()


def scalars(rows: Iterable[Row]) -> list[tuple[str, float, int]]:
    """The numbers of history rows as (tag, value, round)."""
    found = []
    for row in rows:
        client = str(row["client"])
        who = client if client in AGGREGATES else f"client-{client}"
        found += [
            (f"{row['phase']}/{key}/{who}", float(value), int(row["round"]))
            for key, value in row.items()
            if key not in NO_METRIC and isinstance(value, Real)
        ]
    return found


def final_figures(headline_rows: Iterable[Row]) -> dict[str, float]:
    """The figures of FINAL that there are, from the rows that stand for the run (see headline.py)."""
    rows = list(headline_rows)
    last, top = (rows[-1] if rows else {}), best(rows)
    named = zip(FINAL, (last.get("accuracy"), last.get("loss"), top.get("accuracy"), top.get("loss")), strict=True)
    return {tag: float(value) for tag, value in named if finite(value) is not None}
