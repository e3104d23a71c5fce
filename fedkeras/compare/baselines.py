"""A job of a part that is not federated: one model, trained on one client's examples or on all, and its two files.

The parts that are not federated: their jobs dealt out to some processes of solo.py, and put together.
"""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from fedkeras.compare.arm_run import ArmResult, ArmRun
from fedkeras.compare.children import Child
from fedkeras.errors import UserError
from fedkeras.reports.history import count_rows

ALL = "all"
"""In the place of a client: the examples of all clients together."""
ROWS_A_ROUND = 2


def figures_path(folder: Path, who: str) -> Path:
    """What the job came to; there once it is done."""
    return folder / f"{who}.json"


def rounds_path(folder: Path, who: str) -> Path:
    """A history that grows by ROWS_A_ROUND while it is trained."""
    return folder / f"{who}.csv"


LOOK_SECONDS = 0.1

Job = tuple[ArmRun, str]


def jobs_of(part: ArmRun) -> list[Job]:
    """One for all clients together, or one for each."""
    who = [ALL] if part.arm.kind == "centralised" else map(str, range(part.config.num_partitions))
    return [(part, one) for one in who]


def train(
    parts: Sequence[ArmRun],
    processes: int,
    place: Path,
    progress: Callable[[ArmRun, int, int], None],
    finished: Callable[[ArmResult], None],
    failed: Callable[[ArmRun, str], None],
) -> None:
    """Do the jobs of these parts that are not done, `processes` at once; a part is `finished` with its last job.

    A job whose process fails makes its part `failed`, with the reason, and its other jobs are left out. `progress` is
    told a part, its finished rounds and all its rounds. Processes write their output into the folder `place`.
    """
    jobs = [job for part in parts for job in jobs_of(part)]
    done = {_key(job) for job in jobs if is_done(job)}
    waiting = [job for job in jobs if _key(job) not in done]
    open_parts, busy, idle, started = list(parts), {}, [], 0
    try:
        while open_parts:
            for child, job in list(busy.items()):
                if is_done(job):
                    done.add(_key(job))
                    idle.append(child)
                elif child.process.poll() is not None:
                    child.end()
                    if job[0] in open_parts:
                        open_parts.remove(job[0])
                        failed(job[0], child.last_words())
                    waiting = [other for other in waiting if other[0] != job[0]]
                else:
                    continue
                del busy[child]
            while waiting and len(busy) < processes:
                if not idle:
                    idle.append(Child(["-m", "fedkeras.compare.baseline_worker"], place, f"solo-{started}"))
                    started += 1
                child, job = idle.pop(), waiting.pop(0)
                child.say(_line(job))
                busy[child] = job
            for part in [part for part in open_parts if all(_key(job) in done for job in jobs_of(part))]:
                open_parts.remove(part)
                finished(together(part, processes))
            _tell(open_parts, busy.values(), done, progress)
            time.sleep(LOOK_SECONDS)
    finally:
        for child in [*busy, *idle]:
            child.process.kill()  # what is done is written; what is not would begin anew anyway
            child.end()


def is_done(job: Job) -> bool:
    """True once its figures are there."""
    return figures_path(job[0].folder, job[1]).exists()


def together(part: ArmRun, processes: int) -> ArmResult:
    """A part from its jobs' figures. Raises UserError for damaged ones."""
    found = {who: _read(part, who) for _, who in jobs_of(part)}
    lasts = {who: figures["curve"][-1] for who, figures in found.items()}
    several = part.arm.kind == "local"
    # Clients alone do not wait for each other: what they take here is their seconds over the processes there are
    share = min(processes, len(found))
    return ArmResult(
        part.arm.name,
        part.arm.kind,
        part.seed,
        accuracy=_mean(last["accuracy"] for last in lasts.values()),
        macro_f1=_mean(figures["macro_f1"] for figures in found.values()),
        loss=_mean(last["loss"] for last in lasts.values()),
        seconds=sum(figures["seconds"] for figures in found.values()) / share,
        training_seconds=sum(figures["training_seconds"] for figures in found.values()),
        bytes_up=0 if several else None,
        bytes_down=0 if several else None,
        own={cid: value for figures in found.values() for cid, value in figures["own"].items()},
        central={who: last["accuracy"] for who, last in lasts.items() if last["accuracy"] is not None}
        if several
        else {},
        curve=[_point(list(lines), several) for lines in zip(*(one["curve"] for one in found.values()), strict=True)],
    )


def _point(lines: list[dict], several: bool) -> dict:
    accuracies = [line["accuracy"] for line in lines if line["accuracy"] is not None]
    point = {"round": lines[0]["round"]}
    point |= {name: _mean(line[name] for line in lines) for name in ("accuracy", "loss")}
    return point | ({"lowest": min(accuracies), "highest": max(accuracies)} if several and accuracies else {})


def _mean(values: object) -> float | None:
    """None where one of them is missing or not finite: a mean over the others would be another figure."""
    values = [np.nan if value is None else value for value in values]
    mean = float(np.mean(values))
    return mean if np.isfinite(mean) else None


def _key(job: Job) -> tuple:
    return job[0].folder, job[1]


def _line(job: Job) -> str:
    part, who = job
    return json.dumps({"folder": str(part.folder), "who": who, "config": part.config.to_run_config()})


def _read(part: ArmRun, who: str) -> dict:
    path = figures_path(part.folder, who)
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove it, and it is trained again") from error


def _tell(
    parts: Sequence[ArmRun], busy: Iterable[Job], done: set, progress: Callable[[ArmRun, int, int], None]
) -> None:
    for part in parts:
        jobs, rounds = jobs_of(part), part.config.num_server_rounds
        count = rounds * sum(_key(job) in done for job in jobs)
        for other, who in busy:
            if other == part:
                count += count_rows(rounds_path(part.folder, who)) // ROWS_A_ROUND
        progress(part, count, rounds * len(jobs))
