"""A trial is a real `server.py --spawn` without central evaluation; the winner's run alone is tested centrally.

Its figure is the share of all clients' held-out examples that is right after the last round.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from fedkeras.compare import federated
from fedkeras.compare.arm_run import ArmResult, ArmRun, read_result
from fedkeras.compare.arms import Arm
from fedkeras.config import Value
from fedkeras.errors import RunFailed
from fedkeras.reports.divergence import DIVERGED
from fedkeras.reports.run import read_run
from fedkeras.sweep.settings import SweepSettings
from fedkeras.sweep.trials import Report


class Pruned(KeyboardInterrupt):
    """The pruner stops a trial as Ctrl-C does: its server finishes the round and keeps it."""


def train_trial(
    settings: SweepSettings, folder: Path, values: dict[str, Value], report: Report, print_line: Callable[[str], None]
) -> float | None:
    """The clients' accuracy with these values; None if the trial was pruned or has diverged. Raises RunFailed."""
    run = _run(settings, folder / "trials" / _slug(values), values, central=False)
    reported = 0

    def progress(_: int) -> None:
        nonlocal reported
        for number, accuracy in _accuracies(run):
            if number > reported:
                reported = number
                if report(number, accuracy) and number < run.config.num_server_rounds:
                    raise Pruned

    try:
        result = federated.train(run, settings.processes or os.cpu_count() or 1, progress, lambda _: None)
    except Pruned:
        print_line(f"pruned after round {reported}")
        return None
    if any(read_run(path.parent).status == DIVERGED for path in run.folder.glob("*-run*/config.json")):
        print_line("its loss is no number")
        return None
    if result.own_accuracy is None:
        raise RunFailed("the clients report no accuracy on their held-out parts: there is nothing to choose by")
    return result.own_accuracy


def train_winner(settings: SweepSettings, folder: Path, values: dict[str, Value]) -> ArmResult:
    """The best trial's values once more, tested on the central test set. Raises RunFailed."""
    run = _run(settings, folder / "winner" / _slug(values), values, central=True)
    if (result := read_result(run.folder)) is None:
        result = federated.train(run, settings.processes or os.cpu_count() or 1, lambda _: None, print)
        result.write(run.folder)
    return result


def _run(settings: SweepSettings, folder: Path, values: dict[str, Value], central: bool) -> ArmRun:
    folder.mkdir(parents=True, exist_ok=True)
    config = dataclasses.replace(settings.config, **values, central_evaluation=central)
    return ArmRun(Arm(config.strategy), config.seed, folder, config)


def _slug(values: dict[str, Value]) -> str:
    """The folder of these values: a trial that is tried again never goes on with a run of other values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def _accuracies(run: ArmRun) -> list[tuple[int, float]]:
    paths = sorted(run.folder.glob("*-run*/history.csv"))
    rows = read_run(paths[-1].parent).rows if paths else []
    found = [row for row in rows if row["phase"] == "evaluate" and row["client"] == "all"]
    return [(row["round"], row["accuracy"]) for row in found if isinstance(row.get("accuracy"), float)]
