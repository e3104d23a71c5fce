"""The cell runs of a study: which are finished and which have failed, and how the missing ones are trained."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from fedkeras.compare import federated
from fedkeras.compare.arm_run import ArmResult, ArmRun, read_result
from fedkeras.compare.progress import ComparisonProgress
from fedkeras.errors import UserError
from fedkeras.study.grid import Cell
from fedkeras.study.settings import StudySettings

RUNS = "cells"
"""The folder of the cell runs' folders."""


class CellRun(NamedTuple):
    """A cell with one seed."""

    cell: Cell
    run: ArmRun

    @property
    def key(self) -> tuple[Cell, int]:
        """Of its result."""
        return self.cell, self.run.seed


@dataclass
class StudyState:
    """All cell runs, the results of the finished ones, and why others have failed, by cell."""

    runs: list[CellRun]
    results: dict[tuple[Cell, int], ArmResult] = field(default_factory=dict)
    failures: dict[Cell, str] = field(default_factory=dict)

    def missing(self) -> list[CellRun]:
        """The cell runs without a result."""
        return [run for run in self.runs if run.key not in self.results]


def runs_of(settings: StudySettings, folder: Path) -> list[CellRun]:
    """Each cell with each seed, seed by seed: an interrupted study has whole grids first."""
    found = []
    for seed in settings.seeds:
        for cell in settings.cells:
            config = cell.arm.configure(cell.condition.configure(settings.config), seed)
            slug = cell.arm.slug
            if cell.condition.name:
                slug = f"{hashlib.sha256(cell.condition.name.encode()).hexdigest()[:8]}-{slug}"
            found.append(CellRun(cell, ArmRun(cell.arm, seed, folder / RUNS / f"{slug}-seed{seed}", config)))
    return found


def read_state(settings: StudySettings, folder: Path) -> StudyState:
    """The study as its folder has it. Raises UserError for a result that is damaged."""
    state = StudyState(runs_of(settings, folder))
    for run in state.runs:
        if (result := read_result(run.run.folder)) is not None:
            state.results[run.key] = result
    return state


def train_missing(
    settings: StudySettings, state: StudyState, progress: ComparisonProgress, written: Callable[[], None]
) -> None:
    """Train what is missing, filling `state`; `written` is called after each. KeyboardInterrupt: the rest can go on."""
    processes = settings.processes or os.cpu_count() or 1
    for cell, run in state.missing():
        rounds = partial(progress.rounds, run, total=run.config.num_server_rounds)
        try:
            run.folder.mkdir(parents=True, exist_ok=True)
            result = federated.train(run, processes, rounds, progress.print_line)
        except OSError as error:
            raise UserError(f"cannot make {run.folder}: {error.strerror or error}; choose another --out") from error
        except UserError as error:
            state.failures.setdefault(cell, f"seed {run.seed}: {error}")
            progress.failed(run, str(error))
            continue
        result.write(run.folder)
        state.results[cell, run.seed] = result
        progress.finished(result)
        written()
