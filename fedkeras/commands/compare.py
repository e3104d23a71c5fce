"""`fedkeras compare`: is federated worth it? The same data trained pooled, alone, federated and split."""

import dataclasses
import shlex
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from fedkeras import atomic, factory
from fedkeras.checkout import program
from fedkeras.commands.resumable import check_test_sets, ending_by_signal, make_folder, read_flags
from fedkeras.compare import comparison_state, page, table, words
from fedkeras.compare.arms import Arm
from fedkeras.compare.differences import paired_differences
from fedkeras.compare.progress import ComparisonProgress
from fedkeras.compare.settings import Settings, check_alike, saved
from fedkeras.config import Config
from fedkeras.errors import RunFailed, UserError, complain
from fedkeras.reports import RunFolder, held
from fedkeras.workflows.base import workflow_of
from fedkeras.workflows.flag_checks import check_flags

PROG = program("compare")
WIDTH = 100


def main(args: Sequence[str]) -> int:
    """Train what is not trained yet, print the table, and return the exit status: 0 only if no arm run is missing."""
    try:
        settings, before = read(list(args))
        settings.check()
        if before:
            check_alike(before, settings)
        check_arms(settings)
        with atomic.private(settings.config.private, Path(settings.out) if settings.out else None):
            folder = make_folder(settings.out, settings.config.dataset, "compare", "comparison", saved)
            with held(RunFolder(folder)), ending_by_signal():
                settings.save(folder)
                return compare(settings, folder)
    except UserError as error:
        return complain(PROG, error)


def read(args: list[str]) -> tuple[Settings, Settings | None]:
    """What was typed, over the settings of the comparison in --out; and those settings. Raises UserError."""
    return read_flags(Settings, saved, args, PROG)


def check_arms(settings: Settings) -> None:
    """Raise UserError for what an arm would fail of, before the first one is trained."""
    if not settings.config.deals:
        raise UserError("--partitioner own: an arm has all data in one process, and clients bring files of their own")
    for seed in settings.seeds:
        check_test_sets(dataclasses.replace(settings.config, seed=seed), "arms are compared")
    for arm in settings.parsed_arms:
        try:
            check_arm(arm, settings.config)
        except UserError as error:
            raise (UserError(f"--arms {arm.name}: {error}") if arm.options or arm.mods else error) from error


def check_arm(arm: Arm, config: Config) -> None:
    """Raise UserError for what its server would refuse."""
    own = arm.configure(config, config.seed)
    factory.model_name(own)
    check_flags(workflow_of(own), own)


def compare(settings: Settings, folder: Path) -> int:
    """Train, and write the results, also where not all arm runs are finished."""
    state = comparison_state.read_state(settings, folder)
    count, finished = len(state.runs), len(state.results)
    print(f"{folder}: {count} arm runs, {finished} of them finished", flush=True)
    again = f"to go on: {PROG} --out {shlex.quote(str(folder))}"
    try:
        with ComparisonProgress(count, finished) as progress:
            comparison_state.train_missing(settings, state, progress)
    except KeyboardInterrupt:
        _write(settings, state, folder)
        print(again, flush=True)
        print(f"{PROG}: interrupted", file=sys.stderr)
        return 130
    _write(settings, state, folder)
    if state.results:
        _show(state)
        print(folder / "comparison.html")
    if state.failures:
        print(again, flush=True)
        others = "; what is finished is in the table" if state.results else ""
        raise RunFailed(f"{', '.join(state.failures)} failed{others}")
    return 0


def _write(settings: Settings, state: comparison_state.ComparisonState, folder: Path) -> None:
    if state.results:
        page.write_all(settings, state.in_order(), state.failures, folder)


def _show(state: comparison_state.ComparisonState) -> None:
    results = state.in_order()
    for lines in (table.text(table.lines_of(results)), table.differences_text(paired_differences(results))):
        if lines:
            print("", *lines, sep="\n")
    print()
    print(textwrap.fill(" ".join(words.paragraph(results)), WIDTH))
