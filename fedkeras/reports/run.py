"""A run's folder as a report reads it: the history must be there and whole, all else may be missing or damaged."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fedkeras.callbacks import Row
from fedkeras.errors import UserError
from fedkeras.reports.headline import Headline, choose_headline
from fedkeras.reports.history import FAILURES, TIMING, WARNINGS, read_rows
from fedkeras.reports.label_counts import LabelCounts, read_label_counts
from fedkeras.reports.predictions import Predictions, read_predictions
from fedkeras.reports.run_folder import JsonTable, RunFolder, is_held

T = TypeVar("T")

LOCAL = "local"
"""The mode in config.json of a training without federation (`fedkeras train`), whose rounds are epochs."""


@dataclass(frozen=True)
class RecordedRun:
    """What a run has left behind until now. `faults` are sentences about files that could not be read."""

    name: str
    status: str
    """finished, diverged, interrupted or failed; running; or unfinished, where there is no summary and no server."""
    rows: list[Row]
    config: JsonTable
    summary: JsonTable
    failures: list[Row]
    timing: list[Row]
    labels: LabelCounts | None
    predictions: Predictions | None
    faults: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    """What the run said is wrong with its results."""

    @property
    def headline(self) -> Headline:
        """Which figures stand for the run; the training's as long as there is no round."""
        return choose_headline(self.rows) or Headline("training")

    @property
    def metric(self) -> str:
        """The metric that stands for the run; the loss of a model that has no other."""
        metric = self.headline.metric
        return metric if any(metric in row for row in self.rows) else "loss"

    @property
    def seconds(self) -> float | None:
        """Wall time: the summary's, else what the rounds took together."""
        return seconds_of(self.summary, self.timing)


def read_run(path: Path) -> RecordedRun:
    """Read a run's folder. Raises UserError where there is no history, or a damaged one."""
    folder, faults = RunFolder(path), []
    if not path.is_dir():
        raise UserError(f"there is no folder {path}")

    def tried(read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except UserError as error:
            faults.append(str(error))
            return otherwise

    summary = tried(lambda: read_table(folder.summary_path), {})
    config = tried(lambda: read_table(folder.config_path), {})
    if not config and not faults:
        faults.append(f"there is no {folder.config_path}")
    return RecordedRun(
        name=path.absolute().name,
        status=status_of(folder, summary),
        rows=read_rows(folder.history_path),
        config=config,
        summary=summary,
        failures=tried(lambda: FAILURES.read(folder.failures_path), []),
        timing=tried(lambda: TIMING.read(folder.timing_path), []),
        labels=tried(lambda: read_label_counts(folder.partitions_path), None),
        predictions=tried(lambda: read_predictions(folder.predictions_path), None),
        warnings=tuple(str(row.get("warning", "")) for row in tried(lambda: WARNINGS.read(folder.warnings_path), [])),
        faults=tuple(faults),
    )


def read_table(path: Path) -> JsonTable:
    """A JSON file that holds a table; empty without a file. Raises UserError if it is damaged."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(table, dict):
        raise UserError(f"{path} is damaged: it holds no table")
    return table


def status_of(folder: RunFolder, summary: JsonTable) -> str:
    """How the run ended, in one word, or that it has not."""
    # The summary first: while its own server writes the report, the folder is held, and the run is over
    return str(summary.get("status") or ("running" if is_held(folder) else "unfinished"))


def seconds_of(summary: JsonTable, timing: Sequence[Row]) -> float | None:
    """A run's wall time in seconds; None if it is not known."""
    if isinstance(summary.get("seconds"), int | float):
        return float(summary["seconds"])
    return sum(row.get("seconds", 0.0) for row in timing) if timing else None


def data_of(config: JsonTable) -> str:
    """What was trained on, in a few words: a data set, a file's name, or whose tables they were."""
    if config.get("collect-only"):
        return "what clients had trained"
    if config.get("data-source") == "client":
        return "clients' own tables"
    if config.get("data-source") == "server":
        return f"tables in {Path(str(config.get('data-dir') or 'dataset')).name}"
    name = str(config.get("dataset", "?"))
    name = Path(name).name if "/" in name else name
    return f"clients' own files, tested on {name}" if config.get("partitioner") == "own" else name


def method_of(config: JsonTable) -> str:
    """The strategy; the kind of split learning, how it was collected, or `local`, in its place."""
    if is_local(config):
        return LOCAL
    if collects(config):
        kfold = config.get("method") == "kfold" and not config.get("collect-only")
        return f"collected, {config.get('folds')}-fold" if kfold else "collected"
    split, strategy = config.get("split", "off"), str(config.get("strategy", "?"))
    if config.get("mode") == "fedbuff":
        return "fedbuff" if strategy == "fedavg" else f"fedbuff, {strategy}"
    return strategy if split == "off" else f"split: {split}"


def is_local(config: JsonTable) -> bool:
    """Whether this is the config.json of a training without federation."""
    return config.get("mode") == LOCAL


def collects(config: JsonTable) -> bool:
    """Whether this is the config.json of a run without rounds, which collects what each client trains once."""
    return config.get("mode") == "collect" or bool(config.get("collect-only"))
