"""`fedkeras study`: which defence withstands which attack, at what cost, and where it breaks."""

import shlex
import sys
import textwrap
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from fedkeras import atomic, data
from fedkeras.checkout import program
from fedkeras.commands.compare import check_arm, ending_by_signal, out_in
from fedkeras.compare.progress import ComparisonProgress
from fedkeras.errors import RunFailed, UserError, complain
from fedkeras.flags import parse_flags
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
            folder = make_folder(settings)
            with held(RunFolder(folder)), ending_by_signal():
                settings.save(folder)
                return study(settings, folder)
    except UserError as error:
        return complain(PROG, error)


def read(args: list[str]) -> tuple[StudySettings, StudySettings | None]:
    """What was typed, over the settings of the study in --out; and those settings. Raises UserError."""
    if args and not args[0].startswith("-"):
        args.insert(0, "--dataset")
    out = out_in(args)
    before = saved(Path(out)) if out else None
    return parse_flags(StudySettings, args, PROG, before), before


def check_cells(settings: StudySettings) -> None:
    """Raise UserError for what a cell would fail of, before the first one is trained."""
    if not settings.config.deals:
        raise UserError("--partitioner own: a study deals the data out, and clients bring files of their own")
    for condition in table.conditions_of(settings.cells):
        own = condition.configure(settings.config)
        description = data.describe(own)
        if not description.central_test_size:
            raise UserError(f"--dataset {own.dataset} has no central test set: defences are compared on it")
        without = [cid for cid, size in enumerate(description.test_sizes) if not size]
        if own.test_fraction and without:
            raise UserError(
                f"client {without[0]} has too little to hold any of it out ({condition.name or 'as it is'}); lower "
                "--num-partitions, or leave the clients' own test sets out with --test-fraction 0"
            )
    for cell in settings.cells:
        try:
            cell.arm.check(cell.condition.configure(settings.config).mods)
            check_arm(cell.arm, cell.condition.configure(settings.config))
        except UserError as error:
            under = f" under {cell.condition.name}" if cell.condition.name else ""
            raise UserError(f"{cell.arm.name}{under}: {error}") from error


def make_folder(settings: StudySettings) -> Path:
    """--out, or a new one below runs. Raises UserError for a folder that holds something else."""
    name = Path(settings.config.dataset).stem.replace(":", "-")
    folder = Path(settings.out or f"runs/{datetime.now():%Y%m%d-%H%M%S}-study-{name}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if saved(folder) is None and any(path.name != ".lock" for path in folder.iterdir()):
            raise UserError(f"--out {folder} holds other files, and is no study: choose another")
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror or error}; choose another --out") from error
    return folder


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
