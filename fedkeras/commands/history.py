"""`fedkeras history RUN`: a run's figures to take away."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from fedkeras.atomic import replace_file
from fedkeras.checkout import program
from fedkeras.errors import UserError, complain
from fedkeras.flags import parse_flags
from fedkeras.reports import RunFolder, export, read_rows
from fedkeras.reports.history import whole_lines
from fedkeras.reports.run_folder import without_nan

PROG = program("history")


@dataclass(frozen=True)
class HistoryFlags:
    """Print the figures of a run, also while it goes on."""

    run_dir: Annotated[Positional[str], arg(metavar="RUN_DIR")]
    """A run's folder, such as runs/20260131-142233-digits-fedavg."""
    format: Literal["csv", "json", "markdown", "flower"] = "markdown"
    """csv, json: every row of history.csv; markdown: a row a round; flower: the lists of Flower's History."""
    out: str = ""
    """A file to write instead of printing."""


def main(args: Sequence[str]) -> int:
    """Print or write the figures, and return the exit status."""
    try:
        flags = parse_flags(HistoryFlags, list(args), PROG)
        folder = RunFolder(Path(flags.run_dir))
        if not folder.path.is_dir():
            raise UserError(f"there is no folder {folder.path}")
        text = exported(folder, flags.format)
        if flags.out:
            replace_file(Path(flags.out), f"{text}\n".encode())
    except UserError as error:
        return complain(PROG, error)
    print(flags.out or text)
    return 0


def exported(folder: RunFolder, kind: str) -> str:
    """The run's history in one of the formats. Raises UserError where there is none, or it is damaged."""
    rows = read_rows(folder.history_path)
    if kind == "csv":
        return whole_lines(folder.history_path).decode("utf-8-sig", errors="replace").rstrip("\n")
    if kind == "json":
        return json.dumps(without_nan(rows), indent=2, allow_nan=False)
    if kind == "flower":
        return "\n".join(f"{name} = {value}" for name, value in export.flower(rows).items())
    return export.markdown(rows)
