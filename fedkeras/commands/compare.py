"""`fedkeras compare`: is federated worth it? The same data trained pooled, alone, federated and split."""

import contextlib
import dataclasses
import itertools
import shlex
import signal
import sys
import textwrap
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from fedkeras import atomic, data, factory
from fedkeras.checkout import program
from fedkeras.compare import comparison_state, page, table, words
from fedkeras.compare.arms import Arm
from fedkeras.compare.differences import paired_differences
from fedkeras.compare.progress import ComparisonProgress
from fedkeras.compare.settings import Settings, check_alike, saved
from fedkeras.config import Config
from fedkeras.errors import RunFailed, UserError, complain
from fedkeras.flags import parse_flags
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
            folder = make_folder(settings)
            with held(RunFolder(folder)), ending_by_signal():
                settings.save(folder)
                return compare(settings, folder)
    except UserError as error:
        return complain(PROG, error)


def read(args: list[str]) -> tuple[Settings, Settings | None]:
    """What was typed, over the settings of the comparison in --out; and those settings. Raises UserError."""
    if args and not args[0].startswith("-"):
        args.insert(0, "--dataset")
    out = out_in(args)
    before = saved(Path(out)) if out else None
    return parse_flags(Settings, args, PROG, before), before


def check_arms(settings: Settings) -> None:
    """Raise UserError for what an arm would fail of, before the first one is trained."""
    if not settings.config.deals:
        raise UserError("--partitioner own: an arm has all data in one process, and clients bring files of their own")
    for seed in settings.seeds:
        description = data.describe(dataclasses.replace(settings.config, seed=seed))
        if not description.central_test_size:
            raise UserError(f"--dataset {settings.config.dataset} has no central test set: arms are compared on it")
        without = [cid for cid, size in enumerate(description.test_sizes) if not size]
        if settings.config.test_fraction and without:
            raise UserError(
                f"with seed {seed} client {without[0]} has too little to hold any of it out; lower --num-partitions, "
                "or leave the clients' own test sets out with --test-fraction 0"
            )
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


def make_folder(settings: Settings) -> Path:
    """--out, or a new one below runs. Raises UserError for a folder that holds something else."""
    name = Path(settings.config.dataset).stem.replace(":", "-")
    folder = Path(settings.out or f"runs/{datetime.now():%Y%m%d-%H%M%S}-compare-{name}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if saved(folder) is None and any(path.name != ".lock" for path in folder.iterdir()):
            raise UserError(f"--out {folder} holds other files, and is no comparison: choose another")
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror or error}; choose another --out") from error
    return folder


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


@contextlib.contextmanager
def ending_by_signal() -> Iterator[None]:
    """SIGTERM ends it as Ctrl-C does."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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


def out_in(args: Sequence[str]) -> str:
    """The value of --out, looked for before the flags are read, whose defaults it decides."""
    out = ""
    for word, following in itertools.pairwise([*args, ""]):
        if word == "--out":
            out = following
        elif word.startswith("--out="):
            out = word.removeprefix("--out=")
    return out
