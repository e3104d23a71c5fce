"""`fedkeras runs [DIR]`: the runs there are, newest first."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from fedkeras.checkout import program
from fedkeras.errors import UserError, complain
from fedkeras.flags import parse_flags
from fedkeras.reports.headline import figure
from fedkeras.reports.listing import ListedRun, list_runs

PROG = program("runs")


@dataclass(frozen=True)
class RunsFlags:
    """List runs: name, status, data set, strategy, rounds, best accuracy and its round, seconds."""

    folder: Annotated[Positional[str], arg(metavar="DIR")] = "runs"
    """The folder that holds the runs' folders, as --run-dir of server.py."""
    json: bool = False
    """Print one JSON array instead, with all figures of each run."""


def main(args: Sequence[str]) -> int:
    """Print the list and return the exit status; a broken run is a line of it."""
    try:
        flags = parse_flags(RunsFlags, list(args), PROG)
        runs = list_runs(Path(flags.folder))
    except UserError as error:
        return complain(PROG, error)
    if flags.json:
        print(json.dumps([_entry(run) for run in runs], indent=2))
    elif runs:
        _print(runs)
    else:
        print(f"there is no run in {flags.folder}")
    return 0


def _entry(run: ListedRun) -> dict:
    entry = {"name": run.path.name, "path": str(run.path), "started": run.started.isoformat(), "status": run.status}
    return {**entry, **run.figures, **({"fault": run.fault} if run.fault else {})}


def _print(runs: Sequence[ListedRun]) -> None:
    """Plain aligned columns, whole whatever the width of the terminal: they are piped into grep and sort."""
    lines = [("run", "status", "data set", "strategy", "rounds", "best", "in round", "seconds")]
    lines += [_line(run) for run in runs]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line, run in zip(lines, [None, *runs], strict=True):
        if run is not None and run.fault:
            print(f"{line[0]:<{widths[0]}}  broken: {' '.join(run.fault.split())}")
            continue
        cells = [f"{cell:<{width}}" for cell, width in zip(line[:4], widths, strict=False)]
        cells += [f"{cell:>{width}}" for cell, width in zip(line[4:], widths[4:], strict=True)]
        print("  ".join(cells))


def _line(run: ListedRun) -> tuple[str, ...]:
    if run.fault:
        return (run.path.name, *[""] * 7)
    figures = run.figures
    best, where, seconds = (figures.get(key) for key in ("best_accuracy", "best_round", "seconds"))
    return (
        *(run.path.name, run.status, figures["dataset"], figures["strategy"], str(figures["rounds"]), figure(best)),
        "-" if where is None else str(where),
        "-" if seconds is None else f"{seconds:.1f}",
    )
