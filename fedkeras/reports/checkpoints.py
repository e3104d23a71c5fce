"""The checkpoints of a run, `RUN/checkpoints/round-00012.ckpt`: the newest few and the best.

A file is two lines that a person can read, a line of JSON, and the arrays' bytes:

    fedkeras checkpoint 1
    <SHA-256 of everything after this line, 64 digits: `tail -n +3 FILE | sha256sum` gives the same>
    {"round": 12, ..., "arrays": [{"part": "weights", "name": "dense/kernel", "dtype": "<f4", "shape": [64, 10]}, ...]}
    <the arrays' bytes, one after the other, rows first>

There is no pickle in it: reading a checkpoint runs nobody's code.
"""

import contextlib
import hashlib
import json
import logging
import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fedkeras.atomic import patiently, replace_file, sync
from fedkeras.callbacks import Row
from fedkeras.config import Value
from fedkeras.errors import UserError
from fedkeras.reports.headline import best, choose_headline, lowest_loss
from fedkeras.reports.history import AGGREGATES, count_rows
from fedkeras.reports.run_folder import JsonTable, RunFolder

log = logging.getLogger(__name__)

MAGIC = b"fedkeras checkpoint 1\n"
DIGEST_LINE = 64 + 1


@dataclass(frozen=True)
class Checkpoint:
    """A run between two rounds: all that the next round depends on, and where the history stands."""

    round: int
    weights: Mapping[str, np.ndarray]
    strategy_arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    strategy: JsonTable = field(default_factory=dict)
    """What the strategy's attributes are made of, see fedkeras/federation/strategy_state.py."""
    trainable: tuple[str, ...] | None = None
    """Which of the weights are trained, by name; None: nobody had said."""
    failure_tracker: JsonTable = field(default_factory=dict)
    """Which clients have failed in a row, see fedkeras/federation/sampling.py."""
    client_examples: JsonTable = field(default_factory=dict)
    """How many examples clients have said that they have, see fedkeras/federation/client_weights.py."""
    holders: JsonTable = field(default_factory=dict)
    """Which client ids are held by whom, see fedkeras/runtime/holders.py."""
    history_rows: int = 0
    """Rows of history.csv up to and with this round."""
    seconds: float = 0.0
    """Wall time of the run until now, over all its parts."""
    config: Mapping[str, Value] = field(default_factory=dict)
    versions: Mapping[str, str | None] = field(default_factory=dict)


class Damaged(Exception):
    """A file that is no whole checkpoint; the text says why."""


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file in one step. Raises UserError if the disk refuses."""
    parts = {"weights": checkpoint.weights, "strategy": checkpoint.strategy_arrays}
    named = [(part, name, array) for part, arrays in parts.items() for name, array in arrays.items()]
    header = {
        "round": checkpoint.round,
        "history-rows": checkpoint.history_rows,
        "seconds": round(checkpoint.seconds, 3),
        "versions": checkpoint.versions,
        "config": checkpoint.config,
        "rests": checkpoint.failure_tracker,  # the name that the file has had from the first version on
        "client-examples": checkpoint.client_examples,
        "holders": checkpoint.holders,
        "strategy": checkpoint.strategy,
        "trainable": None if checkpoint.trainable is None else list(checkpoint.trainable),
        "arrays": [
            {"part": part, "name": name, "dtype": array.dtype.str, "shape": list(array.shape)}
            for part, name, array in named
        ],
    }
    pieces = [f"{json.dumps(header)}\n".encode(), *(_bytes(array) for *_, array in named)]
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    replace_file(path, [MAGIC, f"{digest.hexdigest()}\n".encode(), *pieces])


def read(path: Path) -> Checkpoint:
    """Read a file and check its digest. Raises Damaged."""
    try:
        content = patiently(path.read_bytes)
    except OSError as error:
        raise Damaged(f"cannot be read: {error.strerror or error}") from error
    start = len(MAGIC) + DIGEST_LINE
    if content[: len(MAGIC)] != MAGIC:
        raise Damaged(f"does not begin with '{MAGIC.decode().strip()}'")
    if content[len(MAGIC) : start] != f"{hashlib.sha256(memoryview(content)[start:]).hexdigest()}\n".encode():
        raise Damaged("is damaged: its digest does not fit its content")
    end = content.index(b"\n", start) + 1
    header = json.loads(content[start:end])
    parts: dict[str, dict[str, np.ndarray]] = {"weights": {}, "strategy": {}}
    for entry in header["arrays"]:
        dtype, shape = np.dtype(entry["dtype"]), tuple(entry["shape"])
        count = int(np.prod(shape, dtype=np.int64))
        # A copy: these bytes are not aligned, and a strategy's arrays must be writable
        array = np.frombuffer(content, dtype, count, end).reshape(shape).copy()
        parts[entry["part"]][entry["name"]] = array
        end += array.nbytes
    return Checkpoint(
        round=header["round"],
        weights=parts["weights"],
        strategy_arrays=parts["strategy"],
        strategy=header["strategy"],
        trainable=None if header.get("trainable") is None else tuple(header["trainable"]),
        failure_tracker=header["rests"],
        client_examples=header.get("client-examples", {}),
        holders=header.get("holders", {}),
        history_rows=header["history-rows"],
        seconds=header["seconds"],
        config=header["config"],
        versions=header["versions"],
    )


def _bytes(array: np.ndarray) -> memoryview:
    rows_first = np.ascontiguousarray(array)
    return memoryview(rows_first.reshape(-1).view(np.uint8)) if rows_first.size else memoryview(b"")


class Checkpoints:
    """Writes a run's checkpoints while the next round's clients train: one at a time, each waits for the one before.

    Kept are the `keep` newest and the best by the run's headline figure, or by its loss (`by_loss`). `rows` is the
    history so far. A disk that refuses is a warning; the run goes on. Use as a context manager: leaving waits for what
    is being written.
    """

    def __init__(self, folder: RunFolder, keep: int, rows: Iterable[Row] = (), by_loss: bool = False) -> None:
        self._folder, self._keep = folder, keep
        self._best = lowest_loss if by_loss else best
        self._rows = [row for row in rows if row["client"] in AGGREGATES]
        self._thread: threading.Thread | None = None
        self.written = -1
        """The round of the newest one that this has brought to the disk whole."""

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    def save(self, checkpoint: Checkpoint, rows: Iterable[Row]) -> None:
        """Begin to write a checkpoint, whose content must not be changed any more. `rows` are its round's."""
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
            # First the rows, then the checkpoint that refers to them
            sync(self._folder.history_path)
            write(path_of(self._folder, checkpoint.round), checkpoint)
            self.written = checkpoint.round
            self._remove_others(checkpoint.round)
        except (UserError, OSError) as error:
            log.warning("no checkpoint of round %d: %s; the run goes on without", checkpoint.round, error)
        else:
            log.info("checkpoint of round %d: %.3f s", checkpoint.round, time.perf_counter() - started)

    def _remove_others(self, newest: int) -> None:
        """Keep the newest few up to this round, and the best of all; remove later ones, which a resumed run gave up."""
        found = rounds_of(self._folder)
        past = [number for number in found if number <= newest]
        headline = choose_headline(self._rows)
        shown = headline.select(self._rows) if headline else []
        kept = {*past[-self._keep :], self._best(row for row in shown if row["round"] in past).get("round")}
        for number in found:
            if number not in kept:
                path_of(self._folder, number).unlink(missing_ok=True)


def path_of(folder: RunFolder, number: int) -> Path:
    """Where the checkpoint of a round is."""
    return folder.checkpoints_path / f"round-{number:05d}.ckpt"


def rounds_of(folder: RunFolder) -> list[int]:
    """The rounds that have a checkpoint, whole or damaged, ascending."""
    names = []
    with contextlib.suppress(FileNotFoundError):
        names = [path.name for path in folder.checkpoints_path.iterdir()]
    return sorted(int(match[1]) for name in names if (match := re.fullmatch(r"round-(\d{5,})\.ckpt", name)))


def newest_holders(folder: RunFolder) -> JsonTable:
    """Who held which client id at the newest checkpoint of which so much can be read; empty where there is none.

    Only the line of JSON is read: this is looked at before the server listens, and the arrays later.
    """
    for number in reversed(rounds_of(folder)):
        with contextlib.suppress(OSError, ValueError, AttributeError), path_of(folder, number).open("rb") as file:
            if file.readline() == MAGIC and file.readline():
                return json.loads(file.readline()).get("holders", {})
    return {}


def newest_checkpoint(folder: RunFolder) -> Checkpoint | None:
    """The newest checkpoint that is whole and whose history is on the disk; None if the run has made none yet.

    Each that is passed over is a warning that names it. Raises UserError if none is left.
    """
    rows, passed_over = count_rows(folder.history_path), []
    for number in reversed(rounds_of(folder)):
        path = path_of(folder, number)
        try:
            checkpoint = read(path)
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
