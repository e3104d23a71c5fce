"""A federated or a split part: a real `server.py --spawn`, its run folder inside the part's, and what that says."""

import time
from collections.abc import Callable
from numbers import Real

from fedkeras.checkout import is_checkout, started
from fedkeras.compare.arm_run import ArmResult, ArmRun, clock, macro_f1
from fedkeras.compare.children import Child
from fedkeras.compare.settings import flags_of, flags_to_resume
from fedkeras.errors import RunFailed
from fedkeras.reports.client_figures import client_rows
from fedkeras.reports.headline import Headline, finite
from fedkeras.reports.history import TIMING
from fedkeras.reports.predictions import read_predictions
from fedkeras.reports.run import RecordedRun, read_run
from fedkeras.reports.run_folder import RunFolder, is_held

WORK = ("training", "aggregation", "evaluation")
"""Parts of a round that count: not the waiting for clients that still start."""
LOOK_SECONDS = 0.2


def train(part: ArmRun, processes: int, progress: Callable[[int], None], say: Callable[[str], None]) -> ArmResult:
    """Run server.py to its end, or go on with a run that was interrupted, and read what it left.

    `progress` is told the rounds that are done. Raises RunFailed where the run fails. On KeyboardInterrupt the server
    finishes its round and keeps it; on a second one it ends at once.
    """
    run = _run_folder(part)
    if run is not None and is_held(run):
        say(f"{part.title}: waiting for the server that is still at it")
        while is_held(run):
            progress(_rounds(run))
            time.sleep(LOOK_SECONDS)
    if run is None or not _is_finished(run):
        _serve(part, run, processes, progress, say)
        run = _run_folder(part)
    return result_of(part, run)


def result_of(part: ArmRun, folder: RunFolder) -> ArmResult:
    """What a finished run came to. Raises UserError for a run folder that is damaged."""
    run = read_run(folder.path)
    central = Headline("central").select(run.rows)
    last = central[-1]
    tested = [row for row in client_rows(run.rows, "evaluate") if row["round"] == last["round"]]
    predictions = run.predictions or read_predictions(folder.predictions_path)
    computing = [row.get("seconds", 0.0) for row in client_rows(run.rows, "train")]
    return ArmResult(
        part.arm.name,
        part.arm.kind,
        part.seed,
        accuracy=finite(last.get("accuracy")),
        macro_f1=None if predictions is None else macro_f1(predictions.labels, predictions.predicted),
        loss=finite(last.get("loss")),
        seconds=clock([sum(line.get(name, 0.0) for name in WORK) for line in run.timing]),
        # In split learning the server computes too, and does not say how long
        training_seconds=None if part.arm.kind == "split" else sum(computing),
        bytes_up=_bytes(run, "bytes_up"),
        bytes_down=_bytes(run, "bytes_down"),
        own={row["client"]: row["accuracy"] for row in tested if isinstance(row.get("accuracy"), Real)},
        curve=[
            {"round": row["round"], "accuracy": finite(row.get("accuracy")), "loss": finite(row.get("loss"))}
            for row in central
            if row["round"] > 0
        ],
    )


def _serve(
    part: ArmRun, run: RunFolder | None, processes: int, progress: Callable[[int], None], say: Callable[[str], None]
) -> None:
    here = ["--port=0", f"--spawn={min(processes, part.config.num_partitions)}"]
    if run is None:
        words = [*flags_of(part.config), f"--run-dir={part.folder}", "--name=run", *here]
    else:
        words = [f"--resume={run.path}", *flags_to_resume(part.config), *here]
    server = Child([*started("server")[1:], *words], part.folder, "server")
    try:
        while server.process.poll() is None:
            current = _run_folder(part)
            progress(_rounds(current) if current else 0)
            time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        say(f"{part.title}: the round under way is finished and kept; Ctrl-C again ends at once")
        _let_finish(server)
        raise
    finally:
        server.end()
    if server.process.returncode:
        raise RunFailed(server.last_words().removeprefix("server.py: " if is_checkout() else "fedkeras server: "))


def _let_finish(server: Child) -> None:
    server.interrupt()
    try:
        server.process.wait()
    except KeyboardInterrupt:
        server.interrupt()


def _run_folder(part: ArmRun) -> RunFolder | None:
    """The run that was started in the part's folder; the newest, if somebody has put others there."""
    found = sorted(path.parent for path in part.folder.glob("*-run*/config.json"))
    return RunFolder(found[-1]) if found else None


def _is_finished(run: RunFolder) -> bool:
    return run.history_path.exists() and read_run(run.path).status == "finished"


def _rounds(run: RunFolder) -> int:
    return max((line["round"] for line in TIMING.read(run.timing_path)), default=0)


def _bytes(run: RecordedRun, column: str) -> int:
    """Of all rounds, training and evaluation, over all clients."""
    return sum(int(row.get(column, 0)) for row in run.rows if row["client"] == "all")
