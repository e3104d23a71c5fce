"""The baselines of a comparison, which are not federated: `centralised` and `local`.

`centralised` is one job, a model trained on all clients' examples together; `local` is a job a client, a model trained
on the client's own examples. Jobs are done by processes of baseline_worker.py, and a job leaves two files. Once all
jobs of an arm run are done, its result is put together from their figures.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from fedkeras import gpus
from fedkeras.atomic import replace_file
from fedkeras.cids import ALL
from fedkeras.compare.arm_run import ArmResult, ArmRun, CurvePoint
from fedkeras.compare.children import Child
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.reports.history import count_rows

ROWS_A_ROUND = 2
LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class BaselineJob:
    """One model, trained on the examples of `client`, a cid or ALL. `folder` and `config` are its arm run's."""

    folder: Path
    config: Config
    client: str

    @property
    def figures_path(self) -> Path:
        """What it measured; the file exists once the job is done."""
        return self.folder / f"{self.client}.json"

    @property
    def rounds_path(self) -> Path:
        """Its history, which grows by ROWS_A_ROUND each round."""
        return self.folder / f"{self.client}.csv"

    def is_done(self) -> bool:
        """True once its figures are written."""
        return self.figures_path.exists()

    def rounds(self) -> int:
        """How many of its rounds are finished, while it is trained."""
        return count_rows(self.rounds_path) // ROWS_A_ROUND

    def to_line(self) -> str:
        """The job as a line of JSON, for a worker."""
        table = {"folder": str(self.folder), "client": self.client, "config": self.config.to_run_config()}
        return json.dumps(table)

    @classmethod
    def from_line(cls, line: str) -> "BaselineJob":
        """What `to_line` gave."""
        table = json.loads(line)
        return cls(Path(table["folder"]), Config.from_run_config(table["config"]), table["client"])


@dataclass(frozen=True)
class BaselineFigures:
    """What a job measured. `own`: accuracy on the held-out examples, by cid; `curve`: a point a round, central."""

    curve: list[CurvePoint]
    macro_f1: float | None
    own: dict[str, float]
    seconds: float
    training_seconds: float
    test_examples: int | None = None
    own_examples: dict[str, int] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write the file in one step. Raises UserError if the disk refuses."""
        replace_file(path, f"{json.dumps(asdict(self))}\n".encode())

    @classmethod
    def read(cls, path: Path) -> "BaselineFigures":
        """What `write` wrote. Raises UserError for a missing or damaged file."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{path} cannot be read ({error}); remove it, and it is trained again") from error


def jobs_of(run: ArmRun) -> list[BaselineJob]:
    """The jobs of a `centralised` or `local` arm run."""
    clients = [ALL] if run.arm.kind == "centralised" else map(str, range(run.config.num_partitions))
    return [BaselineJob(run.folder, run.config, client) for client in clients]


class BaselinePool:
    """Up to `processes` worker processes, started when they are needed, whose output goes into `folder`.

    Leaving the context ends them. They stay for the next arm: importing TensorFlow takes longer than many a job. Each
    sees its share of the GPUs (`gpus_per_client`; runtime.gpus). Raises UserError where there are too few.
    """

    def __init__(self, processes: int, folder: Path, gpus_per_client: float = 0.0) -> None:
        self._processes, self._folder = processes, folder
        dealt = gpus.deal(processes, gpus_per_client, gpus.visible_gpus())
        self._environments = [gpus.environment_of(seen, gpus_per_client) for seen in dealt]
        self._busy: dict[Child, BaselineJob] = {}
        self._idle: list[Child] = []
        self._started = 0

    def __enter__(self) -> "BaselinePool":
        return self

    def __exit__(self, *_: object) -> None:
        _kill(self._idle)

    def train(
        self,
        runs: Sequence[ArmRun],
        progress: Callable[[ArmRun, int, int], None],
        finished: Callable[[ArmResult], None],
        failed: Callable[[ArmRun, str], None],
    ) -> None:
        """Do the jobs of these arm runs that are not done; an arm run is `finished` with its last job.

        A job whose process fails makes its arm run `failed`, with the reason, and the run's other jobs are left out.
        `progress` gets an arm run, its finished rounds and all its rounds, summed over jobs.
        """
        under_way = {run.folder: run for run in runs}
        waiting = [job for run in runs for job in jobs_of(run) if not job.is_done()]
        missing = Counter(job.folder for job in waiting)
        try:
            while under_way:
                for child, job in list(self._busy.items()):
                    if job.is_done():
                        missing[job.folder] -= 1
                        self._idle.append(child)
                    elif child.process.poll() is not None:
                        child.end()
                        run = under_way.pop(job.folder, None)
                        if run is not None:
                            failed(run, child.last_words())
                        waiting = [other for other in waiting if other.folder != job.folder]
                    else:
                        continue
                    del self._busy[child]
                while waiting and len(self._busy) < self._processes:
                    self._begin(waiting.pop(0))
                for folder in [folder for folder in under_way if not missing[folder]]:
                    finished(result_of(under_way.pop(folder), self._processes))
                for run in under_way.values():
                    progress(run, *self._rounds(run, missing[run.folder]))
                time.sleep(LOOK_SECONDS)
        finally:
            _kill(self._busy)  # finished jobs are written; the others would begin anew anyway
            self._busy.clear()

    def _begin(self, job: BaselineJob) -> None:
        if not self._idle:
            name = f"baseline-{self._started}"
            own = self._environments[self._started % self._processes]
            self._idle.append(Child(["-m", "fedkeras.compare.baseline_worker"], self._folder, name, own))
            self._started += 1
        child = self._idle.pop()
        child.send_line(job.to_line())
        self._busy[child] = job

    def _rounds(self, run: ArmRun, missing: int) -> tuple[int, int]:
        """Finished rounds and all rounds, over all jobs of an arm run."""
        jobs, rounds = len(jobs_of(run)), run.config.num_server_rounds
        begun = sum(job.rounds() for job in self._busy.values() if job.folder == run.folder)
        return rounds * (jobs - missing) + begun, rounds * jobs


def result_of(run: ArmRun, processes: int) -> ArmResult:
    """The result of an arm run from its jobs' figures. Raises UserError for damaged ones."""
    found = {job.client: BaselineFigures.read(job.figures_path) for job in jobs_of(run)}
    lasts = {client: figures.curve[-1] for client, figures in found.items()}
    is_local = run.arm.kind == "local"
    # Local clients do not wait for each other: together they take the sum of their seconds over the processes used
    share = min(processes, len(found))
    central = {client: last["accuracy"] for client, last in lasts.items() if last["accuracy"] is not None}
    return ArmResult(
        run.arm.name,
        run.arm.kind,
        run.seed,
        accuracy=_mean(last["accuracy"] for last in lasts.values()),
        macro_f1=_mean(figures.macro_f1 for figures in found.values()),
        loss=_mean(last["loss"] for last in lasts.values()),
        seconds=sum(figures.seconds for figures in found.values()) / share,
        training_seconds=sum(figures.training_seconds for figures in found.values()),
        bytes_up=0 if is_local else None,
        bytes_down=0 if is_local else None,
        own={cid: value for figures in found.values() for cid, value in figures.own.items()},
        central=central if is_local else {},
        curve=[_point(points, is_local) for points in zip(*(one.curve for one in found.values()), strict=True)],
        test_examples=next(iter(found.values())).test_examples,
        own_examples={cid: count for figures in found.values() for cid, count in figures.own_examples.items()},
    )


def _point(points: Sequence[CurvePoint], is_local: bool) -> CurvePoint:
    """The mean over jobs of one round's figures; of `local` the lowest and highest client's accuracy as well."""
    accuracies = [point["accuracy"] for point in points if point["accuracy"] is not None]
    mean: CurvePoint = {
        "round": points[0]["round"],
        "accuracy": _mean(point["accuracy"] for point in points),
        "loss": _mean(point["loss"] for point in points),
    }
    return mean | ({"lowest": min(accuracies), "highest": max(accuracies)} if is_local and accuracies else {})


def _mean(values: Iterable[float | None]) -> float | None:
    """None where one of them is missing or not finite: a mean over the others would be another figure."""
    mean = float(np.mean([np.nan if value is None else value for value in values]))
    return mean if np.isfinite(mean) else None


def _kill(children: Iterable[Child]) -> None:
    for child in children:
        child.process.kill()
        child.end()
