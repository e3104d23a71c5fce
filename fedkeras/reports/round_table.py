"""Small tables beside history.csv that grow by some lines a round: failures.csv and timing.csv.

As in history.csv, the worst that a killed process leaves is a torn last line, which a reader drops.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fedkeras.errors import UserError
from fedkeras.reports.atomic import replace_file
from fedkeras.reports.history import append_bytes, whole_lines


@dataclass(frozen=True)
class RoundTable:
    """A kind of table: its columns, of which the first is `round`, and how a cell of each is read."""

    columns: Mapping[str, type]

    def append(self, path: Path, rows: Iterable[Mapping[str, object]]) -> None:
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

    def read(self, path: Path) -> list[dict]:
        """All whole rows; none without a file. An empty cell is left out. Raises UserError for a damaged line."""
        if not path.exists():
            return []
        lines = whole_lines(path).decode("utf-8-sig", errors="replace").split("\n")[:-1]
        if lines[:1] != [",".join(self.columns)]:
            raise UserError(f"{path} is damaged: its first line should be '{','.join(self.columns)}'")
        rows = []
        for number, line in enumerate(lines[1:], start=2):
            try:
                cells = zip(self.columns.items(), next(csv.reader([line])), strict=True)
                rows.append({name: kind(text) for (name, kind), text in cells if text != ""})
                rows[-1]["round"] += 0  # every row has its round
            except (ValueError, KeyError, StopIteration, csv.Error):
                raise UserError(f"{path}: line {number} is damaged: '{line[:60]}'") from None
        return rows

    def cut(self, path: Path, last_round: int) -> None:
        """Keep the rows up to this round, in one step: what came later is computed again by a resumed run."""
        if path.exists():
            kept = [row for row in self.read(path) if row["round"] <= last_round]
            replace_file(path, self._lines(kept, header=True))

    def _lines(self, rows: Iterable[Mapping[str, object]], header: bool = False) -> bytes:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        if header:
            writer.writerow(self.columns)
        writer.writerows([_text(row.get(name)) for name in self.columns] for row in rows)
        return out.getvalue().encode()


FAILURES = RoundTable({"round": int, "client": str, "reason": str})
"""Who failed in which round, and why."""

PARTS = ("waiting", "training", "aggregation", "evaluation")
TIMING = RoundTable({"round": int, **dict.fromkeys(PARTS, float), "seconds": float})
"""Where a round's wall time on the server went; `training` is from the first message sent to the last answer."""


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())
