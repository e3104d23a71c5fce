"""The checkpoints of a run: `RUN/checkpoints/round-00012.ckpt`, the newest few and the best."""

import contextlib
import logging
import re
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from fedkeras.errors import UserError
from fedkeras.reports import checkpoint_file
from fedkeras.reports.atomic import sync
from fedkeras.reports.checkpoint_file import Checkpoint, Damaged
from fedkeras.reports.folder import RunFolder
from fedkeras.reports.headline import best, choose_headline
from fedkeras.reports.history import AGGREGATES, count_rows

log = logging.getLogger(__name__)


class Checkpoints:
    """Writes a run's checkpoints while the next round's clients train: one at a time, the next waits for the last.

    Kept are the `keep` newest and the best by the run's headline figure. `rows` is the history so far. A disk that
    refuses is a warning; the run goes on. Use as a context manager: leaving waits for what is being written.
    """

    def __init__(self, folder: RunFolder, keep: int, rows: Iterable[Mapping[str, object]] = ()) -> None:
        self._folder, self._keep = folder, keep
        self._rows = [row for row in rows if row["client"] in AGGREGATES]
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    def save(self, checkpoint: Checkpoint, rows: Iterable[Mapping[str, object]]) -> None:
        """Begin to write a checkpoint, whose content nobody may change any more. `rows` are its round's."""
        self.wait()
        self._rows += [row for row in rows if row["client"] in AGGREGATES]
        self._thread = threading.Thread(target=self._write, args=(checkpoint,), name="fedkeras-checkpoint", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until what is being written is on the disk."""
        if self._thread is not None:
            self._thread.join()

    def _write(self, checkpoint: Checkpoint) -> None:
        started = time.perf_counter()
        try:
            self._folder.checkpoints_path.mkdir(exist_ok=True)
            # First the rows, then the checkpoint that says they are there
            sync(self._folder.history_path)
            checkpoint_file.write(path_of(self._folder, checkpoint.round), checkpoint)
            self._remove_others(checkpoint.round)
        except (UserError, OSError) as error:
            log.warning("no checkpoint of round %d: %s; the run goes on without", checkpoint.round, error)
        else:
            log.info("checkpoint of round %d: %.3f s", checkpoint.round, time.perf_counter() - started)

    def _remove_others(self, newest: int) -> None:
        """Keep the newest few up to this round, and the best of all. Later ones are of a past that is given up."""
        found = rounds_of(self._folder)
        past = [number for number in found if number <= newest]
        headline = choose_headline(self._rows)
        shown = headline.select(self._rows) if headline else []
        kept = {*past[-self._keep :], best(row for row in shown if row["round"] in past).get("round")}
        for number in found:
            if number not in kept:
                path_of(self._folder, number).unlink(missing_ok=True)


def path_of(folder: RunFolder, number: int) -> Path:
    """Where the checkpoint of a round is."""
    return folder.checkpoints_path / f"round-{number:05d}.ckpt"


def rounds_of(folder: RunFolder) -> list[int]:
    """The rounds of which there are checkpoints, whole or not, ascending."""
    names = []
    with contextlib.suppress(FileNotFoundError):
        names = [path.name for path in folder.checkpoints_path.iterdir()]
    return sorted(int(match[1]) for name in names if (match := re.fullmatch(r"round-(\d{5,})\.ckpt", name)))


def newest_checkpoint(folder: RunFolder) -> Checkpoint | None:
    """The newest checkpoint that is whole and whose history is on the disk; None if the run has made none yet.

    Each that is passed over is a warning that names it. Raises UserError if none is left.
    """
    rows, passed_over = count_rows(folder.history_path), []
    for number in reversed(rounds_of(folder)):
        path = path_of(folder, number)
        try:
            checkpoint = checkpoint_file.read(path)
            if checkpoint.history_rows > rows:
                raise Damaged(f"wants {checkpoint.history_rows} rows of history.csv, which has {rows}")
        except Damaged as error:
            passed_over.append(f"{path} {error}")
            continue
        for fault in passed_over:
            log.warning("%s; falling back to the checkpoint of round %d", fault, checkpoint.round)
        return checkpoint
    if passed_over:
        raise UserError(
            f"{folder.path} cannot be resumed, for no checkpoint is left: {passed_over[0]}; start a new run"
        )
    return None
