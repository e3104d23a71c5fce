"""One checkpoint as a file: two lines that a person can read, a line of JSON, and the arrays' bytes.

    fedkeras checkpoint 1
    <SHA-256 of everything after this line, 64 digits: `tail -n +3 FILE | sha256sum` gives the same>
    {"round": 12, ..., "arrays": [{"part": "weights", "name": "dense/kernel", "dtype": "<f4", "shape": [64, 10]}, ...]}
    <the arrays' bytes, one after the other, rows first>

No pickle: reading one runs nobody's code.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fedkeras.reports.atomic import replace_file

MAGIC = b"fedkeras checkpoint 1\n"
DIGEST_LINE = 64 + 1


@dataclass(frozen=True)
class Checkpoint:
    """A run between two rounds: all that the next round depends on, and where the history stands."""

    round: int
    weights: Mapping[str, np.ndarray]
    strategy_arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    strategy: dict = field(default_factory=dict)
    """What the strategy's attributes are made of, see strategies/state.py."""
    rests: dict = field(default_factory=dict)
    """Which clients have failed in a row, see strategies/resting.py."""
    history_rows: int = 0
    """Rows of history.csv up to and with this round."""
    seconds: float = 0.0
    """Wall time of the run until now, over all its parts."""
    config: dict = field(default_factory=dict)
    versions: dict = field(default_factory=dict)


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
        "rests": checkpoint.rests,
        "strategy": checkpoint.strategy,
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
        content = path.read_bytes()
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
        rests=header["rests"],
        history_rows=header["history-rows"],
        seconds=header["seconds"],
        config=header["config"],
        versions=header["versions"],
    )


def _bytes(array: np.ndarray) -> memoryview:
    rows_first = np.ascontiguousarray(array)
    return memoryview(rows_first.reshape(-1).view(np.uint8)) if rows_first.size else memoryview(b"")
