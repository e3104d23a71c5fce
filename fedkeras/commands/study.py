"""`fedkeras study`: which defence withstands which attack, at what cost, and where it breaks."""

import shlex
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fedkeras import atomic
from fedkeras.checkout import program
from fedkeras.commands.compare import check_arm
from fedkeras.commands.resumable import check_test_sets, ending_by_signal, make_folder, read_flags
from fedkeras.compare.progress import ComparisonProgress
from fedkeras.errors import RunFailed, UserError, complain
from fedkeras.reports import RunFolder, held
from fedkeras.reports.text_table import terminal_width
from fedkeras.study import page, state, table, words
from fedkeras.study.settings import StudySettings, check_alike, saved

PROG = program("study")
WIDTH = 100


def main(args: Sequence[str]) -> int:
    """Train the cells that are not trained yet, print the tables; the exit status is 0 only if none is missing."""
    try:
        settings, before = read(list(args))
        settings.check()
        if before:
            check_alike(before, settings)
        check_cells(settings)
        with atomic.private(settings.config.private, Path(settings.out) if settings.out else None):
            folder = make_folder(settings.out, settings.config.dataset, "study", "study", saved)
            with held(RunFolder(folder)), ending_by_signal():
                settings.save(folder)
                return study(settings, folder)
    except UserError as error:
        return complain(PROG, error)


def read(args: list[str]) -> tuple[StudySettings, StudySettings | None]:
    """What was typed, over the settings of the study in --out; and those settings. Raises UserError."""
    return read_flags(StudySettings, saved, args, PROG)


def check_cells(settings: StudySettings) -> None:
    """Raise UserError for what a cell would fail of, before the first one is trained."""
    if not settings.config.deals:
        raise UserError("--partitioner own: a study deals the data out, and clients bring files of their own")
    for condition in table.conditions_of(settings.cells):
        own = condition.configure(settings.config)
        for seed in settings.seeds:
            check_test_sets(replace(own, seed=seed), "defences are compared", condition.name)
    for cell in settings.cells:
        try:
            cell.arm.check(cell.condition.configure(settings.config).mods)
            check_arm(cell.arm, cell.condition.configure(settings.config))
        except UserError as error:
            under = f" under {cell.condition.name}" if cell.condition.name else ""
            raise UserError(f"{cell.arm.name}{under}: {error}") from error


def study(settings: StudySettings, folder: Path) -> int:
    """Train, and write the results after each cell run, so that the page can be looked at meanwhile."""
    found = state.read_state(settings, folder)
    count, finished = len(found.runs), len(found.results)
    print(f"{folder}: {count} cell runs, {finished} of them finished", flush=True)
    again = f"to go on: {PROG} --out {shlex.quote(str(folder))}"

    def write() -> None:
        if found.results:
            page.write_all(settings, found.results, found.failures, folder)

    try:
        with ComparisonProgress(count, finished) as progress:
            state.train_missing(settings, found, progress, write)
    except KeyboardInterrupt:
        write()
        print(again, flush=True)
        print(f"{PROG}: interrupted", file=sys.stderr)
        return 130
    write()
    if found.results:
        print(*table.text(settings.cells, found.results, terminal_width()), "", sep="\n")
        for paragraph in words.paragraphs(settings.cells, found.results, settings.broken):
            print(textwrap.fill(paragraph, WIDTH))
        print(folder / "study.html")
    if found.failures:
        print(again, flush=True)
        raise RunFailed(
            f"{len(found.failures)} of {len(settings.cells)} cells failed; what is finished is in the table"
        )
    return 0
