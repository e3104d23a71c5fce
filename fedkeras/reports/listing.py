"""All runs in a folder, with the figures that distinguish them. A broken one is listed as such."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from fedkeras.callbacks import Row
from fedkeras.errors import UserError
from fedkeras.reports.headline import figures
from fedkeras.reports.history import TIMING, read_rows
from fedkeras.reports.run import data_of, method_of, read_table, seconds_of, status_of
from fedkeras.reports.run_folder import JsonTable, RunFolder

FIGURES = ("rounds", "source", "accuracy", "loss", "best_accuracy", "best_round")
Figures = dict[str, float | str | None]


@dataclass(frozen=True)
class ListedRun:
    """One run. `fault` says what is broken; `figures` are then empty."""

    path: Path
    started: datetime
    status: str
    figures: Figures = field(default_factory=dict)
    fault: str = ""

    @property
    def never_began(self) -> bool:
        """True of a run that ended before it had trained anything: refused, interrupted while waiting, killed.

        One that collects has no figures before its end, and what has arrived until then is nowhere else any more.
        """
        if self.fault or self.status not in ("failed", "interrupted", "unfinished"):
            return False
        kept = (self.path / name for name in ("clients", "checkpoints"))
        has_results = any(folder.is_dir() and any(folder.iterdir()) for folder in kept)
        return not self.figures["rounds"] and self.figures.get("source") is None and not has_results


def list_runs(parent: Path) -> list[ListedRun]:
    """The runs below `parent`, newest first: folders with a config.json or a history. Raises UserError without it."""
    try:
        paths = [path for path in parent.iterdir() if path.is_dir()]
    except FileNotFoundError:
        raise UserError(
            f"there is no folder {parent}; runs are kept in ./runs unless --run-dir says otherwise"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read {parent}: {error.strerror or error}") from error
    folders = [RunFolder(path) for path in paths]
    runs = [_listed(folder) for folder in folders if folder.config_path.exists() or folder.history_path.exists()]
    return sorted(runs, key=lambda run: (run.started, run.path.name), reverse=True)


def figures_of(config: JsonTable, summary: JsonTable, rows: Iterable[Row]) -> Figures:
    """Name of the data set, strategy, rounds done, last and best figures: from the rows, as summary.json has them."""
    return {
        "dataset": data_of(config) if config else str(summary.get("dataset", "?")),
        "strategy": method_of(config) if config else str(summary.get("strategy", "?")),
        **figures(rows),
    }


def _listed(folder: RunFolder) -> ListedRun:
    started = _started(folder.path)
    try:
        config, summary = read_table(folder.config_path), read_table(folder.summary_path)
        if all(key in summary for key in FIGURES):
            # A long history takes a while to read, and there may be hundreds of runs
            found = figures_of(config, summary, ()) | {key: summary[key] for key in FIGURES}
        else:
            rows = read_rows(folder.history_path) if folder.history_path.exists() else []
            found = figures_of(config, summary, rows)
        found["seconds"] = seconds_of(summary, [] if summary else TIMING.read(folder.timing_path))
    except UserError as error:
        return ListedRun(folder.path, started, "broken", fault=str(error))
    return ListedRun(folder.path, started, status_of(folder, summary), found)


def _started(path: Path) -> datetime:
    """From the folder's name; of one with another name, its time."""
    match = re.match(r"\d{8}-\d{6}(?=-)", path.name)
    try:
        return datetime.strptime(match[0], "%Y%m%d-%H%M%S") if match else datetime.fromtimestamp(path.stat().st_mtime)
    except (ValueError, OSError):
        return datetime.min
