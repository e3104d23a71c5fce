"""`fedkeras sweep`: hyperparameters, chosen on the clients' held-out parts and tested centrally once."""

import csv
import io
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from fedkeras import atomic
from fedkeras.checkout import program
from fedkeras.commands.resumable import check_test_sets, ending_by_signal, make_folder, read_flags
from fedkeras.config import Value, flag
from fedkeras.errors import UserError, complain
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
            folder = make_folder(settings.out, settings.config.dataset, "sweep", "sweep", saved)
            with held(RunFolder(folder)), ending_by_signal():
                settings.save(folder)
                return sweep(settings, folder)
    except UserError as error:
        return complain(PROG, error)


def read(args: list[str]) -> tuple[SweepSettings, SweepSettings | None]:
    """What was typed, over the settings of the sweep in --out; and those settings. Raises UserError."""
    return read_flags(SweepSettings, saved, args, PROG)


def check_data(settings: SweepSettings) -> None:
    """Raise UserError where the data has not both test sets a sweep needs."""
    if not settings.config.deals:
        raise UserError("--partitioner own: a sweep deals the data out, and clients bring files of their own")
    check_test_sets(settings.config, "the winner is tested")


def sweep(settings: SweepSettings, folder: Path) -> int:
    """Search, write sweep.csv after each trial, and report the winner's central accuracy."""

    def objective(values: dict[str, Value], report: trials.Report) -> float | None:
        print(", ".join(f"{flag(name)} {_short(value)}" for name, value in values.items()), end=": ", flush=True)
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
    words = " ".join(f"--{flag(name)} {value}" for name, value in best.params.items())
    print(f"best of {settings.trials} by the clients' held-out parts ({best.value:.4f}): {words}")
    print("its loss is no number" if result.accuracy is None else f"central test set: {result.accuracy:.4f}")
    print(folder / "sweep.csv")
    return 0


def _short(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


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
