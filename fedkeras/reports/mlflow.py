"""A run in MLflow: settings, figures by round, and at the end the report. By mlflow-skinny, which is MLflow's client.

Metrics are named as TensorBoard's tags (`evaluate/accuracy/server`, `train/loss/client-2`), with the round as the step.
They go to MLFLOW_TRACKING_URI, or else to `mlflow.db` in the folder of the runs. All is sent from a thread of its own:
a tracking server that is slow or gone costs no round anything; what it did not take is tried again with the next round.
What it refuses for good, such as a name it does not allow, is left out: it would hold up all that follows.
"""

import json
import logging
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from fedkeras.atomic import replace_file
from fedkeras.callbacks import Row
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.reports.history import AGGREGATES
from fedkeras.reports.run import data_of
from fedkeras.reports.run_folder import JsonTable, RunFolder
from fedkeras.reports.tensorboard import final_figures, scalars

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

log = logging.getLogger(__name__)

EXPERIMENT = "fedkeras"
"""Unless MLFLOW_EXPERIMENT_NAME names another."""
MANY = 20
"""Of more clients only the aggregates are sent; history.csv has each."""
A_BATCH = 1000
"""Metrics that MLflow takes in one call."""
PARAMS_A_BATCH = 100
LONGEST_NAME = 250
FORBIDDEN = re.compile(r"[^\w\-. :/]")
"""Characters that no metric's name may have in MLflow."""
INVALID = "INVALID_PARAMETER_VALUE"
"""MLflow's code for what it will not take at another time either (BAD_REQUEST is a database's trouble, too)."""
END_SECONDS = 30.0
"""How long the end of the run waits for what is still to be sent."""
STATUSES = {"finished": "FINISHED", "diverged": "FAILED", "interrupted": "KILLED", "failed": "FAILED"}
SURROUNDINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # a run sends nothing to third parties
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # MLflow's own are 7, each with a longer pause, and 120 s
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""Set where the environment does not say otherwise."""


class MLflow:
    """One run's place in MLflow; a resumed run goes on in its own. Raises UserError, before any training."""

    def __init__(self, folder: RunFolder, config: Config) -> None:
        self._folder = folder
        self._per_client = config.num_partitions <= MANY
        self._client, uri = _client(folder)
        try:
            self._run_id = self._find_or_make(config, uri)
        except Exception as error:  # whatever a tracking server answers
            raise UserError(f"--mlflow: {uri} takes no run: {_words(error)}") from error
        self._pending: list[Metric] = []
        self._warned, self._left_out = False, False
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._send_all, name="mlflow", daemon=True)
        self._thread.start()

    def append(self, rows: Iterable[Row]) -> None:
        """Hand over the numbers of these history rows; returns at once."""
        kept = [row for row in rows if self._per_client or str(row["client"]) in AGGREGATES]
        self._put(scalars(kept))

    def finish(self, summary: JsonTable, headline_rows: Iterable[Row], paths: Iterable[Path]) -> None:
        """Hand over final figures and files, and how the run ended."""
        step = int(summary["rounds"])
        self._put([(name, value, step) for name, value in final_figures(headline_rows).items()])
        for path in paths:
            if path.exists():
                self._work.put(lambda path=path: self._client.log_artifact(self._run_id, str(path)))
        status = STATUSES[str(summary["status"])]
        self._work.put(lambda: self._client.set_terminated(self._run_id, status))

    def close(self) -> None:
        """Wait until all is sent, for some seconds at most."""
        self._work.put(None)
        self._thread.join(END_SECONDS)
        if self._thread.is_alive() or self._pending:
            log.warning("MLflow lacks the run's last figures; history.csv has them")

    def _put(self, found: Iterable[tuple[str, float, int]]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(_as_named(name), value, now, step) for name, value, step in found]
        self._work.put(lambda: self._log(metrics))

    def _log(self, metrics: "list[Metric]") -> None:
        """These and what could not be sent before."""
        self._pending += metrics
        while self._pending:
            self._send(self._pending[:A_BATCH])
            del self._pending[:A_BATCH]

    def _send(self, metrics: "list[Metric]") -> None:
        """All of these but those that are refused for good, which are found by halves: MLflow refuses a batch whole."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.log_batch(self._run_id, metrics=metrics)
        except MlflowException as error:
            if error.error_code != INVALID:
                raise
            if len(metrics) > 1:
                self._send(metrics[: len(metrics) // 2])
                self._send(metrics[len(metrics) // 2 :])
                return
            if not self._left_out:
                log.warning("MLflow does not take '%s', which it will lack: %s", metrics[0].key, _words(error))
            self._left_out = True

    def _send_all(self) -> None:
        while (work := self._work.get()) is not None:
            self._try(work)

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - a tracking server's trouble is not the run's
            if not self._warned:
                log.warning("MLflow does not take what it is sent, and the run goes on: %s", _words(error))
            self._warned = True

    def _find_or_make(self, config: Config, uri: str) -> str:
        """The run's id in MLflow, kept in the folder for a resumed run."""
        known = _known(self._folder.mlflow_path, uri)
        if known:
            self._client.update_run(known, status="RUNNING")
        else:
            known = self._new_run(uri)
            note = json.dumps({"tracking-uri": uri, "run-id": known})
            replace_file(self._folder.mlflow_path, f"{note}\n".encode())
        self._log_settings(known, config)
        return known

    def _new_run(self, uri: str) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        experiment = self._client.get_experiment_by_name(name)
        # With a database, MLflow would put artifacts into the working directory, and that may be Flower's
        place = (self._folder.path.absolute().parent / "mlruns").as_uri() if uri == _own_uri(self._folder) else None
        number = experiment.experiment_id if experiment else self._client.create_experiment(name, place)
        return self._client.create_run(number, run_name=self._folder.path.name).info.run_id

    def _log_settings(self, run_id: str, config: Config) -> None:
        """Parameters and tags. MLflow's parameters never change: what a resumed run has changed becomes a tag."""
        from mlflow.entities import Param, RunTag

        known = self._client.get_run(run_id).data.params
        now = {name: str(value) for name, value in config.to_run_config().items() if name != "resume"}
        new = [Param(name, value) for name, value in now.items() if name not in known]
        for start in range(0, len(new), PARAMS_A_BATCH):
            self._client.log_batch(run_id, params=new[start : start + PARAMS_A_BATCH])
        tags = {
            "dataset": data_of(config.to_run_config()),
            "strategy": config.strategy,
            "run-folder": str(self._folder.path.absolute()),
        }
        tags |= {f"resumed/{name}": value for name, value in now.items() if known.get(name, value) != value}
        self._client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])


def _client(folder: RunFolder) -> "tuple[MlflowClient, str]":
    for name, value in SURROUNDINGS.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
    except ImportError:
        raise UserError("--mlflow needs the extra: pip install 'fedkeras[mlflow]'") from None
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)  # else they log how they make their tables
    uri = os.environ.get("MLFLOW_TRACKING_URI") or _own_uri(folder)
    if uri == _own_uri(folder) and not (folder.path.parent / "mlflow.db").exists():
        print(f"making MLflow's tables in {folder.path.parent / 'mlflow.db'}: once, and some seconds", flush=True)
    try:
        return MlflowClient(tracking_uri=uri), uri
    except Exception as error:
        raise UserError(f"--mlflow: cannot use {uri}: {_words(error)}") from error


def _own_uri(folder: RunFolder) -> str:
    return f"sqlite:///{folder.path.absolute().parent / 'mlflow.db'}"


def _as_named(name: str) -> str:
    """A metric's name as MLflow takes it: `evaluate/recall_0.5/all`."""
    # Nor may it be another path when it is read as one: a//b, a/../b
    plain = "/".join(part for part in FORBIDDEN.sub("_", name).split("/") if part.strip(". "))
    if len(plain) <= LONGEST_NAME:
        return plain
    return f"{plain[: LONGEST_NAME - 50]}_{plain[-49:]}"  # the end says whose it is


def _known(path: Path, uri: str) -> str | None:
    """The run's id, if it was begun at this place."""
    try:
        note = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return note.get("run-id") if note.get("tracking-uri") == uri else None


def _words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
