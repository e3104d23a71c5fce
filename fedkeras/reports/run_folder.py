"""The run folder: one folder a run, `<parent>/<YYYYmmdd-HHMMSS>-<name>/`, where each thing lies in it, and its lock.

One server at a time writes into a run folder: it holds the folder's lock meanwhile.
"""

import contextlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fedkeras.atomic import replace_file
from fedkeras.config import CHOSEN, RULES, RULES_NUMBER, Config
from fedkeras.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: two servers are not kept apart
    fcntl = None

Json = bool | int | float | str | None | list["Json"] | Mapping[str, "Json"]
JsonTable = Mapping[str, Json]
"""What a file such as summary.json holds."""


@dataclass(frozen=True)
class RunFolder:
    """An existing run folder. The paths are where things belong; a run cut short lacks the later ones."""

    path: Path

    @property
    def config_path(self) -> Path:
        return self.path / "config.json"

    @property
    def history_path(self) -> Path:
        return self.path / "history.csv"

    @property
    def model_path(self) -> Path:
        return self.path / "model.keras"

    @property
    def shared_layers_path(self) -> Path:
        """In the place of the model where its clients keep a part of it: what stays with them is untrained in it."""
        return self.path / "shared_layers.keras"

    @property
    def summary_path(self) -> Path:
        return self.path / "summary.json"

    @property
    def log_path(self) -> Path:
        return self.path / "run.log"

    @property
    def curves_path(self) -> Path:
        return self.path / "curves.png"

    @property
    def report_path(self) -> Path:
        return self.path / "report.html"

    @property
    def failures_path(self) -> Path:
        return self.path / "failures.csv"

    @property
    def warnings_path(self) -> Path:
        return self.path / "warnings.csv"

    @property
    def timing_path(self) -> Path:
        return self.path / "timing.csv"

    @property
    def predictions_path(self) -> Path:
        return self.path / "predictions.npz"

    @property
    def partitions_path(self) -> Path:
        return self.path / "partitions.json"

    @property
    def checkpoints_path(self) -> Path:
        return self.path / "checkpoints"

    @property
    def lock_path(self) -> Path:
        return self.path / ".lock"

    @property
    def tensorboard_path(self) -> Path:
        return self.path / "tensorboard"

    @property
    def mlflow_path(self) -> Path:
        return self.path / "mlflow.json"

    def write_config(self, config: Config) -> None:
        """Write config.json in one step; what stands in it beside the settings stays."""
        beside = {key: value for key, value in self.config_table().items() if key in (RULES, CHOSEN)}
        self._write_config_table({**config.to_run_config(), RULES: RULES_NUMBER, **beside})

    def write_chosen(self, chosen: Mapping[str, str]) -> None:
        """Write what the run has chosen into config.json, in one step. Raises UserError if the disk refuses."""
        self._write_config_table({**self.config_table(), CHOSEN: dict(chosen)})

    def config_table(self) -> JsonTable:
        """What config.json holds: the settings, and what stands beside them; nothing where it cannot be read."""
        try:
            table = json.loads(self.config_path.read_text())
        except (OSError, ValueError):  # a new folder has none; whoever resumes a run has read it before
            return {}
        return table if isinstance(table, dict) else {}

    def _write_config_table(self, table: JsonTable) -> None:
        replace_file(self.config_path, f"{json.dumps(table, indent=2)}\n".encode())

    def write_summary(self, summary: JsonTable) -> None:
        """Write summary.json in one step; NaN and infinity, which JSON does not know, become null."""
        text = json.dumps(without_nan(summary), indent=2, allow_nan=False)
        replace_file(self.summary_path, f"{text}\n".encode())


def create_run_folder(parent: Path, name: str, config: Config) -> RunFolder:
    """Make a new folder under `parent` (made too if missing) and write config.json into it.

    Characters of `name` that a file name should not hold become dashes. Raises UserError if `parent` cannot be
    made or written.
    """
    now = datetime.now().strftime("%Y%m%d-%H%M%S")  # local time: it is read by the person who started the run
    stem = f"{now}-{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('-.') or 'run'}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = RunFolder(_first_free(parent, stem))
        folder.write_config(config)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot make a run folder in {parent}: {reason}; choose another with --run-dir") from error
    return folder


def new_folder(out: str) -> Path:
    """--out as a folder that is new or empty, made if it is missing. Raises UserError."""
    path = Path(out).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise UserError(f"--out {path} holds files already: give a folder that is new, or empty")
    except OSError as error:
        raise UserError(f"cannot make {path}: {error.strerror or error}; choose another --out") from error
    return path


def _first_free(parent: Path, stem: str) -> Path:
    """The first name of stem, stem-2, ... that is free, as a new folder.

    `mkdir` is the test and the claim in one, so two servers started in the same second get two folders.
    """
    for number in itertools.count(1):
        path = parent / (stem if number == 1 else f"{stem}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise AssertionError("itertools.count ended")


def without_nan(value: Json) -> Json:
    """The value with null in the place of NaN and infinity, which JSON does not know."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@contextlib.contextmanager
def held(folder: RunFolder) -> Iterator[None]:
    """Hold the folder's lock; the operating system frees it when the process ends, however it ends.

    Raises UserError if another server holds it.
    """
    try:
        file = folder.lock_path.open("ab")
    except OSError as error:
        raise UserError(f"cannot write into {folder.path}: {error.strerror or error}") from error
    with file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"another server is writing to {folder.path}; stop it first") from None
            except OSError:
                pass  # a network disk that knows no locks
        yield


def is_held(folder: RunFolder) -> bool:
    """True if a server is writing into the folder now. False as well where the machine has no such locks."""
    try:
        with folder.lock_path.open("rb") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
