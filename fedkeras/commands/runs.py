"""`fedkeras runs [DIR]`: the runs there are, newest first; and those that never began, swept up."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from fedkeras.checkout import program, typed
from fedkeras.errors import UserError, complain
from fedkeras.flags import parse_flags
from fedkeras.reports import RunFolder, held
from fedkeras.reports.headline import figure
from fedkeras.reports.listing import ListedRun, list_runs
from fedkeras.reports.text_table import terminal_width, text_table

PROG = program("runs")
TITLES = ("run", "status", "data set", "strategy", "rounds", "best", "in round", "seconds")
DROPPABLE = ("data set", "strategy", "in round")
"""Columns that a narrow terminal is spared: a run's name says the first two, unless it was given another."""


@dataclass(frozen=True)
class RunsFlags:
    """List runs: name, status, data set, strategy, rounds, best accuracy and its round, seconds."""

    folder: Annotated[Positional[str], arg(metavar="DIR")] = "runs"
    """The folder that holds the runs' folders, as --run-dir of server.py."""
    all: bool = False
    """List those too that ended before their first round."""
    json: bool = False
    """Print one JSON array instead, of all runs and with all figures of each."""
    prune: bool = False
    """Delete the folders of runs that ended before their first round; asks first."""
    yes: bool = False
    """prune: do not ask."""


def main(args: Sequence[str]) -> int:
    """Print the list, or prune it, and return the exit status; a broken run is a line of it."""
    try:
        flags = parse_flags(RunsFlags, list(args), PROG)
        runs = list_runs(Path(flags.folder))
        if flags.prune:
            return prune([run for run in runs if run.never_began], flags.yes)
    except UserError as error:
        return complain(PROG, error)
    if flags.json:
        print(json.dumps([_entry(run) for run in runs], indent=2))
        return 0
    shown = [run for run in runs if flags.all or not run.never_began]
    if shown:
        _print(shown)
    elif not runs:
        print(f"there is no run in {flags.folder}")
    if hidden := len(runs) - len(shown):
        print(f"{_count(hidden)} ended before the first round: {typed('runs', flags.folder, '--all')}, or --prune")
    return 0


def prune(runs: Sequence[ListedRun], yes: bool) -> int:
    """Delete the folders of these runs, after a question unless `yes`. Returns the exit status; raises UserError."""
    if not runs:
        print("there is nothing to prune")
        return 0
    for run in runs:
        print(f"{run.path}  {run.status}")
    if not yes:
        try:
            answer = input(f"Delete {_count(len(runs)).replace('run', 'folder')}? [y/N] ")
        except EOFError:
            raise UserError("there is nobody to ask; --yes deletes without asking") from None
        if answer.strip().lower() not in ("y", "yes"):
            print("nothing was deleted")
            return 0
    for run in runs:
        try:
            with held(RunFolder(run.path)):  # a server may have taken it up meanwhile
                shutil.rmtree(run.path)
        except OSError as error:
            raise UserError(f"cannot delete {run.path}: {error.strerror or error}") from error
    print(f"deleted {_count(len(runs)).replace('run', 'folder')}")
    return 0


def _count(number: int) -> str:
    return f"{number} run{'s' * (number > 1)}"


def _entry(run: ListedRun) -> dict:
    entry = {"name": run.path.name, "path": str(run.path), "started": run.started.isoformat(), "status": run.status}
    return {**entry, **run.figures, **({"fault": run.fault} if run.fault else {})}


def _print(runs: Sequence[ListedRun]) -> None:
    """Aligned columns: whole in a pipe, for grep and sort; on a terminal as wide as that."""
    whole = [run for run in runs if not run.fault]
    titles, *lines = text_table([TITLES, *map(_line, whole)], 4, terminal_width(), DROPPABLE)
    print(titles)
    aligned = iter(lines)
    for run in runs:
        print(f"{run.path.name}  broken: {' '.join(run.fault.split())}" if run.fault else next(aligned))


def _line(run: ListedRun) -> tuple[str, ...]:
    figures = run.figures
    best, where, seconds = (figures.get(key) for key in ("best_accuracy", "best_round", "seconds"))
    return (
        *(run.path.name, run.status, figures["dataset"], figures["strategy"], str(figures["rounds"]), figure(best)),
        "-" if where is None else str(where),
        "-" if seconds is None else f"{seconds:.1f}",
    )
