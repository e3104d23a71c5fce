"""Several runs on one page: their figures, their curves on top of each other, and the settings that differ."""

from collections.abc import Sequence
from datetime import datetime
from itertools import count
from pathlib import Path

from fedkeras.atomic import replace_file
from fedkeras.reports.charts import overlay, run_colours
from fedkeras.reports.headline import SOURCES, Headline
from fedkeras.reports.listing import figures_of
from fedkeras.reports.page import render
from fedkeras.reports.report import metrics_of, said
from fedkeras.reports.run import RecordedRun, read_run
from fedkeras.reports.svg import css

GROUPS = {"central": "On the central test set", "clients": "Mean over the clients' own test sets"}
LAST = {"training": "Mean over the clients, in training"}
MOST_METRICS = 6


def write_comparison(folders: Sequence[Path], out: Path) -> Path:
    """Write the page. Raises UserError for a folder that is no run's, and where the disk refuses."""
    replace_file(out, comparison([read_run(path) for path in folders]).encode("utf-8", errors="replace"))
    return out


def comparison(runs: Sequence[RecordedRun]) -> str:
    """The page's text."""
    names = _names(runs)
    colours = {name: css(colour) for name, colour in run_colours(names).items()}
    sources = {(run.headline.source, run.config.get("dataset")) for run in runs}
    differing = "These come from different test sets: do not compare them. " if len(sources) > 1 else ""
    return render(
        "comparison",
        title=f"{len(runs)} runs side by side",
        notes=[f"{name}: {fault}" for name, run in zip(names, runs, strict=True) for fault in run.faults],
        runs=[
            figures_of(run.config, run.summary, run.rows) | {"status": run.status, "seconds": run.seconds}
            | {"name": name, "colour": colours[name]}
            for name, run in zip(names, runs, strict=True)
        ],
        figures_note=f"{differing}Loss and accuracy are the last round's; best is the highest accuracy of a round. "
        "Of a model without accuracy, the round is that of the lowest loss.",
        groups=_groups(dict(zip(names, runs, strict=True))),
        legend={name: (colour, 1.0) for name, colour in colours.items()},
        settings=_differing(runs),
        made=f"Made by fedkeras, {datetime.now():%Y-%m-%d %H:%M}.",
    )  # fmt: skip


def _groups(runs: dict[str, RecordedRun]) -> list[dict]:
    groups = []
    for source, name in {**GROUPS, **LAST}.items():
        chosen = {run_name: Headline(source).select(run.rows) for run_name, run in runs.items()}
        metrics = metrics_of([row for rows in chosen.values() for row in rows], "accuracy")[:MOST_METRICS]
        drawn = [overlay(chosen, metric, name) for metric in metrics]
        if any(drawn):
            groups.append({"name": name, "charts": [chart for chart in drawn if chart]})
    assert {*GROUPS, *LAST} == SOURCES.keys()
    return groups


def _differing(runs: Sequence[RecordedRun]) -> list[dict]:
    keys = dict.fromkeys(key for run in runs for key in run.config)
    table = {key: [said(run.config.get(key)) for run in runs] for key in keys}
    return [{"name": key, "cells": cells} for key, cells in table.items() if len({*cells}) > 1]


def _names(runs: Sequence[RecordedRun]) -> list[str]:
    """The folders' names; a second one of the same name, from another place, gets a number."""
    names: list[str] = []
    for run in runs:
        names.append(
            next(name for number in count(1) if (name := run.name + f" ({number})" * (number > 1)) not in names)
        )
    return names
