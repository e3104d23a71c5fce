"""The arm runs of a comparison: which are finished and which have failed, and how the missing ones are trained."""

import os
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from fedkeras.compare import federated
from fedkeras.compare.arm_run import ArmResult, ArmRun, read_result
from fedkeras.compare.arms import SOLO
from fedkeras.compare.baselines import BaselinePool
from fedkeras.compare.progress import ComparisonProgress
from fedkeras.compare.settings import Settings
from fedkeras.errors import UserError

RUNS = "parts"
"""The folder of the arm runs' folders."""
GIVEN_UP_AFTER = 2
"""Failed seeds of an arm without a finished one."""


@dataclass
class ComparisonState:
    """All arm runs, the results of the finished ones by (arm, seed), and by arm why it has failed."""

    runs: list[ArmRun]
    results: dict[tuple[str, int], ArmResult] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def in_order(self) -> list[ArmResult]:
        """The results by arm, in the order in which the arms were named, then by seed."""
        keys = [(run.arm.name, run.seed) for run in self.runs]
        return [self.results[key] for key in keys if key in self.results]

    def missing(self) -> list[ArmRun]:
        """The arm runs without a result."""
        return [run for run in self.runs if (run.arm.name, run.seed) not in self.results]

    @property
    def complete(self) -> bool:
        """True if no arm run is missing."""
        return len(self.results) == len(self.runs)


def runs_of(settings: Settings, folder: Path) -> list[ArmRun]:
    """Each arm with each seed."""
    return [
        ArmRun(arm, seed, folder / RUNS / f"{arm.slug}-seed{seed}", arm.configure(settings.config, seed))
        for arm in settings.parsed_arms
        for seed in settings.seeds
    ]


def read_state(settings: Settings, folder: Path) -> ComparisonState:
    """The comparison as its folder has it. Raises UserError for a result that is damaged."""
    state = ComparisonState(runs_of(settings, folder))
    for run in state.runs:
        result = read_result(run.folder)
        if result is not None:
            state.results[run.arm.name, run.seed] = result
    return state


def train_missing(settings: Settings, state: ComparisonState, progress: ComparisonProgress) -> None:
    """Train what is missing, filling `state`.

    A seed that fails is no reason to leave out an arm's others: their differences count without it. But a federated or
    split arm of which GIVEN_UP_AFTER seeds have failed and none is finished is given up. On KeyboardInterrupt what is
    finished is written, and the rest can go on.
    """
    processes = settings.processes or os.cpu_count() or 1
    missing = state.missing()
    for run in missing:
        _make(run.folder)

    def finished(result: ArmResult) -> None:
        run = next(run for run in missing if (run.arm.name, run.seed) == (result.arm, result.seed))
        result.write(run.folder)
        state.results[result.arm, result.seed] = result
        progress.finished(result)

    failures: Counter[str] = Counter()

    def failed(run: ArmRun, reason: str) -> None:
        failures[run.arm.name] += 1
        state.failures.setdefault(run.arm.name, f"seed {run.seed}: {reason}")
        progress.failed(run, reason)

    by_kind = {kind: [run for run in missing if run.arm.kind == kind] for kind in SOLO}
    if any(by_kind.values()):
        # Kind after kind, so that a kind has all processes, as the seconds in the table say
        with BaselinePool(processes, missing[0].folder.parent, settings.config.gpus_per_client) as pool:
            for runs in by_kind.values():
                pool.train(runs, progress.rounds, finished, failed)
    for run in (run for run in missing if run.arm.kind not in SOLO):
        none_is_finished = not any(arm == run.arm.name for arm, _ in state.results)
        if none_is_finished and failures[run.arm.name] >= GIVEN_UP_AFTER:
            continue
        rounds = partial(progress.rounds, run, total=run.config.num_server_rounds)
        try:
            finished(federated.train(run, processes, rounds, progress.print_line))
        except UserError as error:
            failed(run, str(error))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror or error}; choose another --out") from error
