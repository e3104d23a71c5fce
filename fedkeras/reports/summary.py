"""The figures of a run that has ended: summary.json, for scripts and comparisons, and the lines that are printed."""

import importlib.metadata
import platform
from collections.abc import Iterable
from numbers import Real
from pathlib import Path

from fedkeras.callbacks import Row
from fedkeras.config import Config
from fedkeras.reports import fairness
from fedkeras.reports.divergence import DIVERGED, diverged_since
from fedkeras.reports.headline import SOURCES, Headline, figure, figures, metric_names
from fedkeras.reports.history import read_rows
from fedkeras.reports.run import data_of
from fedkeras.reports.run_folder import Json, JsonTable, RunFolder
from fedkeras.reports.simulated_time import elapsed

STATUSES = ("finished", DIVERGED, "interrupted", "failed")
"""How a run ended; diverged: it came to its end, and its last loss is not finite."""
PACKAGES = ("fedkeras", "flwr", "tensorflow", "keras", "numpy")
A_LINE = 5
"""Rounds that are printed on a line."""
MOST = 20
"""Rounds that are printed of each metric; of a longer run, evenly spaced ones and the last."""


def summarise(
    config: Config, history: Path | Iterable[Row], seconds: float, status: str, **more: Json
) -> dict[str, Json]:
    """The content of summary.json from a history (its path or its rows) and the run's wall time in seconds.

    `loss` and `accuracy` are the last round's of the source named in `source` (central, clients or training);
    `best_round` is the round of the highest accuracy, or of the lowest loss where the model has no accuracy. Figures
    that do not exist are None. `client_accuracy` and `client_loss` say how far apart the clients' own tests are
    (reports.fairness). `more` (num_weights, ...) is added at the end.
    """
    if status not in STATUSES:
        raise ValueError(f"status must be one of {', '.join(STATUSES)}, not {status}")
    rows = read_rows(history) if isinstance(history, Path) else list(history)
    return {
        "status": status,
        "dataset": data_of(config.to_run_config()),
        "model": config.model,
        "strategy": config.strategy,
        **figures(rows),
        **_between_clients(rows),
        "seconds": round(seconds, 3),
        **({"simulated_seconds": max(simulated.values())} if (simulated := elapsed(rows)) else {}),
        "clients": config.num_partitions,
        "seed": config.seed,
        "versions": versions(),
    } | more


def _between_clients(rows: list[Row]) -> dict[str, Json]:
    """How far apart the clients are that were tested last; nothing where there are none, or a mod hides them."""
    found = {name: fairness.last_round(rows, name) for name in ("accuracy", "loss")}
    return {f"client_{name}": one.table() for name, one in found.items() if one}


def versions() -> dict[str, str | None]:
    """Versions of Python and of what decides the figures, read without importing any of it; None: not installed."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def ending(summary: JsonTable, rows: Iterable[Row], folder: Path) -> list[str]:
    """The lines to print when a run ends: losses and metrics by round, final and best accuracy, time, folder.

    They are at most 80 columns wide but for warnings and paths; the folder's is the last line.
    """
    rows = list(rows)
    lines = [""]
    for source in SOURCES:
        chosen = Headline(source).select(rows)
        for metric in metric_names(chosen):
            lines += [f"{metric} ({source})", *_series(chosen, metric)]
    lines += [_accuracy(summary)] if isinstance(summary["accuracy"], Real) else []
    lines += fairness.said(found) if (found := fairness.last_round(rows)) else []
    if simulated := summary.get("simulated_seconds"):
        lines += [f"simulated time: {simulated:.4g} s (--clients)"]
    lines += [f"history: {RunFolder(folder).history_path}"] if rows else []
    warnings = summary.get("warnings") or []
    lines += [f"warning: {text}" for text in warnings]
    return [*lines, _status(summary, rows, len(warnings)), str(folder)]


def _status(summary: JsonTable, rows: list[Row], warnings: int) -> str:
    line = f"{summary['status']} in {summary['seconds']:.1f} s"
    if summary["status"] == DIVERGED:
        return f"{line}: the loss is not finite since round {diverged_since(rows)}"
    return f"{line}, with {warnings} warning{'s' * (warnings > 1)}" if warnings else line


def _accuracy(summary: JsonTable) -> str:
    final, best, where = summary["accuracy"], summary["best_accuracy"], summary["best_round"]
    return f"accuracy ({summary['source']}): {final:.4f} at the end, best {best:.4f} in round {where}"


def _series(rows: list[Row], metric: str) -> list[str]:
    step = -(-len(rows) // MOST)
    shown = rows[::step] + (rows[-1:] if (len(rows) - 1) % step else [])
    cells = [f"{row['round']:>6}: {figure(row.get(metric)):<7}" for row in shown]
    return ["".join(cells[i : i + A_LINE]).rstrip() for i in range(0, len(cells), A_LINE)]
