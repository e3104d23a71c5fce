"""`fedkeras sweep`: hyperparameters, chosen on the clients' held-out parts and tested centrally once."""

import csv
import io
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from fedkeras import atomic, data
from fedkeras.checkout import program
from fedkeras.commands.compare import ending_by_signal, out_in
from fedkeras.errors import UserError, complain
from fedkeras.flags import parse_flags
from fedkeras.reports import RunFolder, held
from fedkeras.sweep import trials
from fedkeras.sweep.settings import SweepSettings, check_alike, saved
from fedkeras.sweep.training import train_trial, train_winner

PROG = program("sweep")


def main(args: Sequence[str]) -> int:
    """Run the trials that are missing, test the best one; the exit status is 0 only if both are done."""
    try:
        settings, before = read(list(args))
        settings.check()
        if before:
            check_alike(before, settings)
        check_data(settings)
        trials.check_installed()
        with atomic.private(settings.config.private, Path(settings.out) if settings.out else None):
            folder = make_folder(settings)
            with held(RunFolder(folder)), ending_by_signal():
                settings.save(folder)
                return sweep(settings, folder)
    except UserError as error:
        return complain(PROG, error)


def read(args: list[str]) -> tuple[SweepSettings, SweepSettings | None]:
    """What was typed, over the settings of the sweep in --out; and those settings. Raises UserError."""
    if args and not args[0].startswith("-"):
        args.insert(0, "--dataset")
    out = out_in(args)
    before = saved(Path(out)) if out else None
    return parse_flags(SweepSettings, args, PROG, before), before


def check_data(settings: SweepSettings) -> None:
    """Raise UserError where the data has not both test sets a sweep needs."""
    if not settings.config.deals:
        raise UserError("--partitioner own: a sweep deals the data out, and clients bring files of their own")
    if not data.describe(settings.config).central_test_size:
        raise UserError(f"--dataset {settings.config.dataset} has no central test set: the winner is tested on it")


def make_folder(settings: SweepSettings) -> Path:
    """--out, or a new one below runs. Raises UserError for a folder that holds something else."""
    name = Path(settings.config.dataset).stem.replace(":", "-")
    folder = Path(settings.out or f"runs/{datetime.now():%Y%m%d-%H%M%S}-sweep-{name}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if saved(folder) is None and any(path.name != ".lock" for path in folder.iterdir()):
            raise UserError(f"--out {folder} holds other files, and is no sweep: choose another")
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror or error}; choose another --out") from error
    return folder


def sweep(settings: SweepSettings, folder: Path) -> int:
    """Search, write sweep.csv after each trial, and report the winner's central accuracy."""

    def objective(values, report):  # noqa: ANN001, ANN202
        print(
            ", ".join(
                f"{name.replace('_', '-')} {value:.4g}"
                if isinstance(value, float)
                else f"{name.replace('_', '-')} {value}"
                for name, value in values.items()
            ),
            end=": ",
            flush=True,
        )
        accuracy = train_trial(settings, folder, values, report, print)
        if accuracy is not None:
            print(f"clients' accuracy {accuracy:.4f}", flush=True)
        return accuracy

    try:
        trials.search(settings.space, settings.trials, settings.config.seed, folder, objective, settings.pruning)
        write_csv(folder)
        best = trials.best(folder)
        result = train_winner(settings, folder, best.params)
    except KeyboardInterrupt:
        write_csv(folder)
        print(f"\nto go on: {PROG} --out {shlex.quote(str(folder))}", flush=True)
        print(f"{PROG}: interrupted", file=sys.stderr)
        return 130
    words = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in best.params.items())
    print(f"best of {settings.trials} by the clients' held-out parts ({best.value:.4f}): {words}")
    print("its loss is no number" if result.accuracy is None else f"central test set: {result.accuracy:.4f}")
    print(folder / "sweep.csv")
    return 0


def write_csv(folder: Path) -> None:
    """A line a trial: how it ended, its rounds, the clients' accuracy (empty if pruned), and its values."""
    found = trials.ended(trials.open_study(folder))
    text = io.StringIO()
    names = list(found[0].params) if found else []
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["trial", "state", "rounds", "clients_accuracy", *names])
    for number, one in enumerate(found):
        value = one.value if one.state.name == "COMPLETE" else ""
        lines.writerow([number, one.state.name.lower(), one.last_step or 0, value, *(one.params[n] for n in names)])
    atomic.replace_file(folder / "sweep.csv", text.getvalue().encode())
