"""A federated or split arm run: a real `server.py --spawn`, whose run folder lies in the arm run's, and its figures."""

import time
from collections.abc import Callable
from numbers import Real

import numpy as np

from fedkeras.checkout import is_checkout, started
from fedkeras.compare.arm_run import ArmResult, ArmRun, clock, macro_f1
from fedkeras.compare.children import Child
from fedkeras.compare.settings import flags_of, flags_to_resume
from fedkeras.errors import RunFailed
from fedkeras.mods.chain import make_mods
from fedkeras.reports.client_figures import client_rows
from fedkeras.reports.divergence import DIVERGED
from fedkeras.reports.headline import Headline, finite
from fedkeras.reports.history import PARTS, TIMING
from fedkeras.reports.predictions import read_predictions
from fedkeras.reports.run import RecordedRun, read_run
from fedkeras.reports.run_folder import RunFolder, is_held

WORK = tuple(part for part in PARTS if part != "waiting")
"""Parts of a round that count: not the waiting for clients that still start."""
LOOK_SECONDS = 0.2


def train(run: ArmRun, processes: int, progress: Callable[[int], None], print_line: Callable[[str], None]) -> ArmResult:
    """Run server.py to its end, or go on with a run that was interrupted, and read what it left.

    `progress` gets the rounds that are done. Raises RunFailed where the run fails. On KeyboardInterrupt the server
    finishes its round and keeps it; on a second one it ends at once.
    """
    folder = _run_folder(run)
    if folder is not None and is_held(folder):
        print_line(f"{run.title}: waiting for the server that still writes to {folder.path}")
        while is_held(folder):
            progress(_rounds(folder))
            time.sleep(LOOK_SECONDS)
    if folder is None or not _has_ended(folder):
        _serve(run, folder, processes, progress, print_line)
        folder = _run_folder(run)
    return result_of(run, folder)


def result_of(run: ArmRun, folder: RunFolder) -> ArmResult:
    """The result from the folder of a run that has come to its end. Raises UserError for one that is damaged.

    A run that has diverged gives no accuracy and no loss: that is what came of this seed, and the others go on.
    """
    recorded = read_run(folder.path)
    diverged = recorded.status == DIVERGED
    mods = make_mods(run.config.mods)
    # Of a part of a model nothing is tested centrally, and the clients' figures say when the last round was
    central = Headline("central").select(recorded.rows) if mods.whole_model else []
    last = central[-1] if central else {"round": max(row["round"] for row in recorded.rows)}
    tested = [row for row in client_rows(recorded.rows, "evaluate") if row["round"] == last["round"]]
    own = [row for row in tested if isinstance(row.get("accuracy"), Real)]
    if mods.own_models and diverged:
        own = []
    predictions = recorded.predictions or read_predictions(folder.predictions_path)
    computing = [row.get("seconds", 0.0) for row in client_rows(recorded.rows, "train")]
    return ArmResult(
        run.arm.name,
        run.arm.kind,
        run.seed,
        accuracy=None if diverged else finite(last.get("accuracy")),
        macro_f1=None if diverged or predictions is None else macro_f1(predictions.labels, predictions.predicted),
        loss=None if diverged else finite(last.get("loss")),
        seconds=clock([sum(line.get(name, 0.0) for name in WORK) for line in recorded.timing]),
        # In split learning the server computes too, and does not record how long; a mod may hide who computed what
        training_seconds=None if run.arm.kind == "split" or not computing else sum(computing),
        bytes_up=_bytes(recorded, "bytes_up"),
        bytes_down=_bytes(recorded, "bytes_down"),
        own={row["client"]: row["accuracy"] for row in own},
        curve=[
            {"round": row["round"], "accuracy": finite(row.get("accuracy")), "loss": finite(row.get("loss"))}
            for row in central
            if row["round"] > 0
        ],
        test_examples=last.get("num_examples"),
        own_examples={row["client"]: row["num_examples"] for row in own},
        personal=mods.own_models,
        guess=None if predictions is None else _guess(predictions.labels),
        attack_success=finite(last.get("attack_success")),
        new={row["client"]: row["new_accuracy"] for row in tested if isinstance(row.get("new_accuracy"), Real)},
    )


def _guess(labels: np.ndarray) -> float:
    """The accuracy of who names the commonest label always."""
    return float(np.unique(labels, return_counts=True)[1].max() / len(labels))


def _serve(
    run: ArmRun,
    folder: RunFolder | None,
    processes: int,
    progress: Callable[[int], None],
    print_line: Callable[[str], None],
) -> None:
    here = ["--port=0", f"--spawn={min(processes, run.config.num_partitions)}"]
    if folder is None:
        words = [*flags_of(run.config), f"--run-dir={run.folder}", "--name=run", *here]
    else:
        words = [f"--resume={folder.path}", *flags_to_resume(run.config), *here]
    server = Child([*started("server")[1:], *words], run.folder, "server")
    try:
        while server.process.poll() is None:
            current = _run_folder(run)
            progress(_rounds(current) if current else 0)
            time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        print_line(f"{run.title}: the round under way is finished and kept; Ctrl-C again ends at once")
        _let_finish(server)
        raise
    finally:
        server.end()
    ended = _run_folder(run)
    if server.process.returncode and not (ended and _has_ended(ended)):
        raise RunFailed(server.last_words().removeprefix("server.py: " if is_checkout() else "fedkeras server: "))


def _let_finish(server: Child) -> None:
    server.interrupt()
    try:
        server.process.wait()
    except KeyboardInterrupt:
        server.interrupt()


def _run_folder(run: ArmRun) -> RunFolder | None:
    """The folder of the server's run, in the arm run's folder; the newest, if somebody has put others there."""
    found = sorted(path.parent for path in run.folder.glob("*-run*/config.json"))
    return RunFolder(found[-1]) if found else None


def _has_ended(folder: RunFolder) -> bool:
    """Whether all rounds are over, though their model may have diverged, for which server.py ends with status 3."""
    return folder.history_path.exists() and read_run(folder.path).status in ("finished", DIVERGED)


def _rounds(folder: RunFolder) -> int:
    return max((line["round"] for line in TIMING.read(folder.timing_path)), default=0)


def _bytes(recorded: RecordedRun, column: str) -> int:
    """Of all rounds, training and evaluation, over all clients."""
    return sum(int(row.get(column, 0)) for row in recorded.rows if row["client"] == "all")
