"""The tables of a run that grow with each round: history.csv, and beside it failures.csv and timing.csv.

A row of history.csv is one client's (or an aggregate's) figures in one phase of one round. Rows are appended and
flushed when their round is over. At worst a killed process leaves a torn last line: a reader drops it, and a writer
that goes on with the file cuts it off first.
"""

import contextlib
import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING

from fedkeras import csv_text
from fedkeras.atomic import patiently, replace_file
from fedkeras.callbacks import Row
from fedkeras.errors import UserError, one_line

if TYPE_CHECKING:
    import pandas

COLUMNS = ("round", "phase", "client", "num_examples", "loss", "accuracy", "seconds")
"""Columns that each history.csv has, in this order; others follow as they first appear."""
TEXT = ("phase", "client")
KEYS = ("round", *TEXT)
"""Columns that say which row it is; a metric cannot have these names."""
AGGREGATES = ("all", "server")
"""What stands in the column `client` of rows that are not one client's."""
BYTES = ("bytes_up", "bytes_down")
"""Columns of what a client sent, and was sent, in a phase: its messages' arrays in bytes. No metrics."""
LOCAL_STEPS, SIMULATED_SECONDS = "local_steps", "simulated_seconds"
"""Columns of a run with a simulated clock: the steps that a client did in the round, and the seconds they stand for.

In the line of `all` the steps are added up, and the seconds are those of the round.
"""
LEFT_OUT = "left_out"
"""In the line of `all`, where there are deadlines or over-selection: clients whose work does not count, since they were
late or others were faster."""
OF_TIME = (LOCAL_STEPS, SIMULATED_SECONDS, LEFT_OUT)
UPDATES = "updates"
"""The column that says, where there are no rounds in which each client trains once, of how many trainings a line is."""
OF_RUN = ("epsilon",)
"""Columns that say of the run by then, and not of a model, what the table on the terminal shows beside the model's."""
NOT_AVERAGED = (*KEYS, "num_examples", "seconds", *BYTES, *OF_TIME)
"""Columns of which the row of `all` has no mean."""
NO_METRICS = (*COLUMNS, *BYTES, *OF_TIME, UPDATES, *OF_RUN)
"""Columns that are not a model's own metrics. Histories of before there was split learning have no bytes."""


class History:
    """The writer of one history.csv. A metric first seen later adds a column by rewriting the file in one step."""

    def __init__(self, path: Path) -> None:
        """Start `path` with its header, or go on with an existing history. Raises UserError if it is none."""
        self.path = path
        whole = whole_lines(path) if path.exists() else b""
        self.columns = _header(path, whole) if whole else list(COLUMNS)
        if not whole:
            replace_file(path, _lines([], self.columns, header=True))
        elif len(whole) != path.stat().st_size:
            replace_file(path, whole)  # a torn line would swallow the row appended after it
        self.num_rows = max(0, whole.count(b"\n") - 1)

    def append(self, rows: Iterable[Row]) -> None:
        """Append rows and hand them to the operating system before returning.

        Raises UserError on a full disk; earlier rows stay readable.
        """
        rows = list(rows)
        self._append(rows)
        self.num_rows += len(rows)

    def _append(self, rows: list[Row]) -> None:
        new = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in self.columns]
        if new:
            columns = self.columns + new
            replace_file(self.path, _lines([*read_rows(self.path), *rows], columns, header=True))
            self.columns = columns
        elif rows:
            append_bytes(self.path, _lines(rows, self.columns))


def count_rows(path: Path) -> int:
    """How many whole rows there are; 0 without a file. Raises UserError if it cannot be read."""
    return max(0, whole_lines(path).count(b"\n") - 1) if path.exists() else 0


def cut_rows(path: Path, rows: int) -> None:
    """Keep the first `rows` rows of a history, in one step. A column that only later rows had stays, empty."""
    if path.exists():
        lines = whole_lines(path).split(b"\n")[:-1]
        replace_file(path, b"".join(line + b"\n" for line in lines[: rows + 1]))


def read_rows(path: Path) -> list[Row]:
    """Read a history as a list of rows; an empty cell is left out of its row. A torn last line is dropped.

    Raises UserError where the file is missing, lacks a column or holds a line that is none.
    """
    whole = whole_lines(path)
    columns = _header(path, whole)
    rows: list[Row] = []
    for number, line in enumerate(_decoded(whole)[1:], start=2):
        try:
            cells = zip(columns, csv_text.cells_of(line), strict=True)
            row = {key: _parse(key, text) for key, text in cells if text != "" or key in KEYS}
        except (ValueError, csv.Error):
            raise UserError(f"{path}: line {number} is damaged: '{line[:60]}'; remove it to read the rest") from None
        rows.append(row)
    return rows


def read_history(path: Path) -> "pandas.DataFrame":
    """Read a history as a table; `client` and `phase` are text. Raises UserError as `read_rows` does."""
    import pandas

    columns = _header(path, whole_lines(path))
    table = pandas.DataFrame(read_rows(path), columns=columns)
    return table.astype(dict.fromkeys(TEXT, str) | {"round": int})


def whole_lines(path: Path) -> bytes:
    """The file up to its last line end: what follows was being written when the process died."""
    try:
        content = patiently(path.read_bytes)
    except FileNotFoundError:
        raise UserError(f"there is no {path}; is this the folder of a run?") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    return content[: content.rfind(b"\n") + 1]


def _decoded(whole: bytes) -> list[str]:
    return whole.decode("utf-8-sig", errors="replace").split("\n")[:-1]


def _header(path: Path, whole: bytes) -> list[str]:
    lines = _decoded(whole)
    if not lines:
        raise UserError(f"{path} is empty")
    columns = csv_text.cells_of(lines[0])
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise UserError(f"{path} is no history: it lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}")
    return columns


def _lines(rows: Iterable[Row], columns: list[str], header: bool = False) -> bytes:
    lines = [[_format(row.get(name)) for name in columns] for row in rows]
    return csv_text.text_of([columns, *lines] if header else lines).encode()


def _format(value: float | str | None) -> csv_text.Cell:
    """All digits of a number, so that what is read back is what was measured; a text stays on its line."""
    if value is None:
        return None
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    return one_line(str(value))


def _parse(key: str, text: str) -> int | float | str:
    if key in TEXT:
        if not text:
            raise ValueError(f"no {key}")
        return text
    if key in ("round", "num_examples", LOCAL_STEPS, LEFT_OUT, UPDATES, *BYTES):
        return int(text)
    try:
        return float(text)
    except ValueError:
        if key in COLUMNS:
            raise
        return text  # a client's own metric may be a word


def append_bytes(path: Path, content: bytes) -> None:
    """Add whole lines to a file, or none of them. Raises UserError if the disk refuses."""
    try:
        with patiently(lambda: path.open("ab", buffering=0)) as file:
            before = file.seek(0, 2)
            try:
                rest = memoryview(content)
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError:
                # Cut off what a full disk took of these rows. If even that is refused, the reader drops a torn line.
                with contextlib.suppress(OSError):
                    file.truncate(before)
                raise
    except OSError as error:
        raise UserError(f"cannot append to {path}: {error.strerror or error}; earlier rounds are kept") from error


@dataclass(frozen=True)
class RoundTable:
    """A kind of small table beside history.csv: its columns, the first of which is `round`, and the type of each."""

    columns: Mapping[str, type]

    def append(self, path: Path, rows: Iterable[Row]) -> None:
        """Add rows, below a header if the file is new. Raises UserError if the disk refuses."""
        rows = list(rows)
        if not rows:
            return
        whole = whole_lines(path) if path.exists() else b""
        if not whole:
            replace_file(path, self._lines([], header=True))
        elif len(whole) != path.stat().st_size:
            replace_file(path, whole)  # a torn line would swallow the row appended after it
        append_bytes(path, self._lines(rows))

    def read(self, path: Path) -> list[Row]:
        """All whole rows; none without a file. An empty cell is left out. Raises UserError for a damaged line."""
        if not path.exists():
            return []
        lines = whole_lines(path).decode("utf-8-sig", errors="replace").split("\n")[:-1]
        if lines[:1] != [",".join(self.columns)]:
            raise UserError(f"{path} is damaged: its first line should be '{','.join(self.columns)}'")
        rows = []
        for number, line in enumerate(lines[1:], start=2):
            try:
                cells = zip(self.columns.items(), csv_text.cells_of(line), strict=True)
                rows.append({name: kind(text) for (name, kind), text in cells if text != ""})
                rows[-1]["round"] += 0  # every row has its round
            except (ValueError, KeyError, csv.Error):
                raise UserError(f"{path}: line {number} is damaged: '{line[:60]}'") from None
        return rows

    def cut(self, path: Path, last_round: int) -> None:
        """Keep the rows up to this round, in one step: what came later is computed again by a resumed run."""
        if path.exists():
            kept = [row for row in self.read(path) if row["round"] <= last_round]
            replace_file(path, self._lines(kept, header=True))

    def _lines(self, rows: Iterable[Row], header: bool = False) -> bytes:
        lines = [[_text(row.get(name)) for name in self.columns] for row in rows]
        return csv_text.text_of([self.columns, *lines] if header else lines).encode()


FAILURES = RoundTable({"round": int, "client": str, "reason": str})
"""failures.csv: who failed in which round, and why."""

WARNINGS = RoundTable({"round": int, "about": str, "warning": str})
"""warnings.csv: what is wrong with the run's results; round 0 is before the first one."""

PARTS = ("waiting", "training", "aggregation", "evaluation")
"""Parts of a round's wall time on the server; `training` is from the first message sent to the last answer."""
PART_OF_PHASE = {"train": "training", "evaluate": "evaluation"}
"""What the time until a phase's last answer is called."""
TIMING = RoundTable({"round": int, **dict.fromkeys(PARTS, float), "seconds": float})
"""timing.csv: where a round's wall time on the server went."""


def _text(value: float | str | None) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else one_line(str(value))
