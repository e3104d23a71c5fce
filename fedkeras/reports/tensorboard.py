"""TensorBoard event files of a run, written by tensorboardX so that the server need not import TensorFlow.

A tag is phase/metric/client: `evaluate/accuracy/server`, `train/loss/client-2`; the step is the round.
"""

from collections.abc import Iterable, Mapping
from numbers import Real
from pathlib import Path

from fedkeras.errors import UserError
from fedkeras.reports.history import AGGREGATES

NO_METRIC = ("round", "client", "phase")


class TensorBoard:
    """The writer of one run's event files. Raises UserError at once, before any training, without tensorboardX."""

    def __init__(self, path: Path) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise UserError("--tensorboard needs the extra: pip install 'fedkeras[tensorboard]'") from None
        try:
            self._writer = SummaryWriter(str(path))
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error

    def append(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Write the numbers of these history rows as scalars, and flush."""
        for row in rows:
            client = str(row["client"])
            who = client if client in AGGREGATES else f"client-{client}"
            for key, value in row.items():
                if key not in NO_METRIC and isinstance(value, Real):
                    self._writer.add_scalar(f"{row['phase']}/{key}/{who}", float(value), int(row["round"]))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
