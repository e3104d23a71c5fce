"""All parts of a comparison, one after the other where they share the processes; what is finished is only read."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fedkeras.compare import baselines, federated
from fedkeras.compare.arm_run import ArmResult, ArmRun, read_result
from fedkeras.compare.arms import SOLO
from fedkeras.compare.progress import ComparisonProgress
from fedkeras.compare.settings import Settings
from fedkeras.errors import UserError

PARTS = "parts"


@dataclass
class ComparisonState:
    """What there is so far: results in the order of arms and seeds, and why an arm has failed."""

    parts: list[ArmRun]
    results: Mapping[tuple[str, int], ArmResult] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def in_order(self) -> list[ArmResult]:
        """By arm as they were named, then by seed."""
        keys = [(part.arm.name, part.seed) for part in self.parts]
        return [self.results[key] for key in keys if key in self.results]

    @property
    def complete(self) -> bool:
        """True if no part is missing."""
        return len(self.results) == len(self.parts)


def parts_of(settings: Settings, folder: Path) -> list[ArmRun]:
    """Each arm with each seed."""
    return [
        ArmRun(arm, seed, folder / PARTS / f"{arm.slug}-seed{seed}", arm.configure(settings.config, seed))
        for arm in settings.parsed_arms
        for seed in settings.seeds
    ]


def take_stock(settings: Settings, folder: Path) -> ComparisonState:
    """The parts there are to be, with the results of those that are finished. Raises UserError for a damaged one."""
    outcome = ComparisonState(parts_of(settings, folder))
    for part in outcome.parts:
        result = read_result(part.folder)
        if result is not None:
            outcome.results[part.arm.name, part.seed] = result
    return outcome


def run(settings: Settings, outcome: ComparisonState, progress: ComparisonProgress) -> None:
    """Train what is missing, filling `outcome`. After a federated or split arm's failure its other seeds are left out;
    those of centralised and local are trained side by side, and all the same.

    On KeyboardInterrupt what is finished is written, and the rest can go on.
    """
    processes = settings.processes or os.cpu_count() or 1
    missing = [part for part in outcome.parts if (part.arm.name, part.seed) not in outcome.results]
    for part in missing:
        _make(part.folder)

    def finished(result: ArmResult) -> None:
        part = next(p for p in outcome.parts if (p.arm.name, p.seed) == (result.arm, result.seed))
        result.write(part.folder)
        outcome.results[result.arm, result.seed] = result
        progress.finished(result)

    def failed(part: ArmRun, reason: str) -> None:
        if part.arm.name not in outcome.failures:
            outcome.failures[part.arm.name] = reason
            progress.failed(part, reason)

    for kind in SOLO:
        parts = [part for part in missing if part.arm.kind == kind]
        if parts:
            baselines.train(parts, processes, parts[0].folder.parent, progress.rounds, finished, failed)
    for part in (part for part in missing if part.arm.kind not in SOLO):
        if part.arm.name in outcome.failures:
            continue
        total = part.config.num_server_rounds
        try:
            finished(
                federated.train(
                    part,
                    processes,
                    lambda done, part=part, total=total: progress.rounds(part, done, total),
                    progress.say,
                )
            )
        except UserError as error:
            failed(part, str(error))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror or error}; choose another --out") from error
