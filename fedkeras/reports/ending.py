"""What is printed when a run ends: losses and metrics by round, final and best accuracy, the time, the folder."""

from collections.abc import Iterable, Mapping
from numbers import Real
from pathlib import Path

from fedkeras.reports.headline import SOURCES, Headline
from fedkeras.reports.history import NO_METRICS
from fedkeras.reports.terminal import figure

A_LINE = 5
"""Rounds shown on a line."""
MOST = 20
"""Rounds shown of each metric; of a longer run, evenly spaced ones and the last."""


def ending(summary: Mapping[str, object], rows: Iterable[Mapping[str, object]], folder: Path) -> list[str]:
    """The lines to print, at most 80 columns wide but for the folder's path, which is the last."""
    rows = list(rows)
    lines = [""]
    for source in SOURCES:
        chosen = Headline(source).select(rows)
        for metric in _metrics(chosen):
            lines += [f"{metric} ({source})", *_series(chosen, metric)]
    lines += [_accuracy(summary)] if isinstance(summary["accuracy"], Real) else []
    lines += [f"{summary['status']} in {summary['seconds']:.1f} s", str(folder)]
    return lines


def _accuracy(summary: Mapping[str, object]) -> str:
    final, best, where = summary["accuracy"], summary["best_accuracy"], summary["best_round"]
    return f"accuracy ({summary['source']}): {final:.4f} at the end, best {best:.4f} in round {where}"


def _metrics(rows: list[Mapping[str, object]]) -> list[str]:
    names = dict.fromkeys(key for row in rows for key, value in row.items() if isinstance(value, Real))
    return [name for name in names if name in ("loss", "accuracy") or name not in NO_METRICS]


def _series(rows: list[Mapping[str, object]], metric: str) -> list[str]:
    step = -(-len(rows) // MOST)
    shown = rows[::step] + (rows[-1:] if (len(rows) - 1) % step else [])
    cells = [f"{row['round']:>6}: {figure(row.get(metric)):<7}" for row in shown]
    return ["".join(cells[i : i + A_LINE]).rstrip() for i in range(0, len(cells), A_LINE)]
