"""A run whose loss is no number any more: since when, and where its last good model is."""

from collections.abc import Iterable
from pathlib import Path

from fedkeras.callbacks import Row
from fedkeras.errors import RunFailed
from fedkeras.reports.checkpoints import path_of, rounds_of
from fedkeras.reports.headline import SOURCES, Headline, best, choose_headline, diverged
from fedkeras.reports.history import read_rows
from fedkeras.reports.run_folder import RunFolder

DIVERGED = "diverged"
"""The status of a run that came to its end with a loss that is not finite."""


def diverged_since(rows: Iterable[Row]) -> int | None:
    """The first of the last rounds in which a loss, central or the clients' mean, was not finite.

    None if the last round's losses are finite, whatever was before.
    """
    rows = list(rows)
    last = max((row["round"] for row in rows), default=0)
    firsts = []
    for source in SOURCES:
        first = None
        for row in reversed(Headline(source).select(rows)):
            if not diverged(row):
                break
            first = row["round"] if first is not None or row["round"] == last else None
        if first is not None:
            firsts.append(first)
    return min(firsts, default=None)


def best_checkpoint(folder: RunFolder, rows: Iterable[Row]) -> tuple[Path, Row] | None:
    """The checkpoint with the best figures among those whose losses are finite, and these; None if there is none."""
    rows = list(rows)
    bad = {row["round"] for row in rows if diverged(row) and str(row["client"]) in ("all", "server")}
    kept = set(rounds_of(folder)) - bad
    headline = choose_headline(rows)
    top = best(row for row in headline.select(rows) if row["round"] in kept) if headline else {}
    return (path_of(folder, top["round"]), top) if top else None


def no_result(folder: RunFolder) -> RunFailed:
    """What to say of a run that ended so: status 3, since its model is no result."""
    rows = read_rows(folder.history_path)
    found = best_checkpoint(folder, rows)
    where = "no checkpoint has a finite loss"
    if found:
        path, row = found
        figures = ", ".join(f"{name} {row[name]:.4g}" for name in ("accuracy", "loss") if name in row)
        where = f"the best checkpoint with a finite loss is {path} ({figures})"
    return RunFailed(
        f"the run ended without a result: its loss is not finite since round {diverged_since(rows)}; {where}; a "
        "smaller --learning-rate, or eta in --strategy-args, may help"
    )
