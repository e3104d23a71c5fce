"""summary.json: the figures of a finished run, for people who compare runs and for scripts."""

import importlib.metadata
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path

from fedkeras.config import Config
from fedkeras.reports.headline import figures
from fedkeras.reports.history import read_rows

STATUSES = ("finished", "interrupted", "failed")
PACKAGES = ("fedkeras", "flwr", "tensorflow", "keras", "numpy")


def summarise(
    config: Config, history: Path | Iterable[Mapping[str, object]], seconds: float, status: str, **more: object
) -> dict[str, object]:
    """The content of summary.json from a history (its path or its rows) and the run's wall time in seconds.

    `loss` and `accuracy` are the last round's of the source named in `source` (central, clients or training);
    `best_round` is the round of the highest accuracy, or of the lowest loss where the model has no accuracy. Figures
    that do not exist are None. `more` (num_weights, ...) is added at the end.
    """
    if status not in STATUSES:
        raise ValueError(f"status must be one of {', '.join(STATUSES)}, not {status}")
    rows = read_rows(history) if isinstance(history, Path) else list(history)
    return {
        "status": status,
        "dataset": config.dataset,
        "model": config.model,
        "strategy": config.strategy,
        **figures(rows),
        "seconds": round(seconds, 3),
        "clients": config.num_partitions,
        "seed": config.seed,
        "versions": versions(),
    } | more


def versions() -> dict[str, str | None]:
    """Versions of Python and of what decides the figures, read without importing any of it; None: not installed."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
