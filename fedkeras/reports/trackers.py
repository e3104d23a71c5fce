"""Where else a run's figures go, beside its folder: TensorBoard's files and MLflow, each if its flag is given."""

import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from fedkeras.callbacks import Row
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.reports.run_folder import JsonTable, RunFolder
from fedkeras.reports.tensorboard import TensorBoard

EXTRAS = {"tensorboard": "tensorboardX", "mlflow": "mlflow"}
"""Flag, which is also the name of its extra -> the module that it needs."""


class Tracker(Protocol):
    """What takes a run's figures: rows of history.csv round by round, and its end."""

    def append(self, rows: Iterable[Row]) -> None: ...

    def finish(self, summary: JsonTable, headline_rows: Iterable[Row], paths: Iterable[Path]) -> None:
        """The summary, the rows that stand for the run, and the files worth keeping with it."""

    def close(self) -> None: ...


def check_extras(config: Config) -> None:
    """Raise UserError if a tracker is wanted whose package is missing. It takes no time: call it first of all."""
    for name, module in EXTRAS.items():
        # None stands in sys.modules for what must not be imported, and find_spec does not like it
        missing = sys.modules.get(module, module) is None or importlib.util.find_spec(module) is None
        if getattr(config, name) and missing:
            raise UserError(f"--{name} needs the extra: pip install 'fedkeras[{name}]'")


def trackers_of(folder: RunFolder, config: Config) -> list[Tracker]:
    """The trackers that the configuration names, begun. Raises UserError."""
    check_extras(config)
    trackers: list[Tracker] = []
    if config.tensorboard:
        trackers.append(TensorBoard(folder.tensorboard_path, config))
    if config.mlflow:
        from fedkeras.reports.mlflow import MLflow

        trackers.append(MLflow(folder, config))
    return trackers
