"""Several runs on one page: their figures, their curves on top of each other, and the settings that differ."""

from collections.abc import Sequence
from datetime import datetime
from itertools import count
from pathlib import Path

from fedkeras.atomic import replace_file
from fedkeras.checkout import typed
from fedkeras.config import chosen_in, settings_in
from fedkeras.reports.charts import overlay, run_keys
from fedkeras.reports.headline import SOURCES, Headline
from fedkeras.reports.listing import figures_of
from fedkeras.reports.page import render
from fedkeras.reports.report import Values, metrics_of, setting_text
from fedkeras.reports.run import RecordedRun, data_of, read_run

GROUPS = {"central": "On the central test set", "clients": "Mean over clients, on what each held out"}
LAST = {"training": "Mean over the clients, in training"}
MOST_METRICS = 6


def write_comparison(folders: Sequence[Path], out: Path) -> Path:
    """Write the page. Raises UserError for a folder that is no run's, and where the disk refuses."""
    replace_file(out, comparison([read_run(path) for path in folders]).encode("utf-8", errors="replace"))
    return out


def comparison(runs: Sequence[RecordedRun]) -> str:
    """The page's text."""
    names = _names(runs)
    keys = run_keys(names)
    sources = {(run.headline.source, data_of(run.config)) for run in runs}
    differing = "These come from different test sets: do not compare them. " if len(sources) > 1 else ""
    return render(
        COMPARISON,
        title=f"{len(runs)} runs side by side",
        notes=[f"{name}: {fault}" for name, run in zip(names, runs, strict=True) for fault in run.faults],
        runs=[
            figures_of(run.config, run.summary, run.rows) | {"status": run.status, "seconds": run.seconds}
            | {"name": name, "colour": keys[name].colour}
            for name, run in zip(names, runs, strict=True)
        ],
        figures_note=f"{differing}Loss and accuracy are the last round's; best is the highest accuracy of a round. "
        "Of a model without accuracy, the round is that of the lowest loss. A run is one seed, so that no difference "
        f"here is told from chance: `{typed('compare', '--repeats', 5)}` does that.",
        groups=_groups(dict(zip(names, runs, strict=True))),
        legend=keys,
        settings=_differing(runs),
        made=f"Made by fedkeras, {datetime.now():%Y-%m-%d %H:%M}.",
    )  # fmt: skip


def _groups(runs: dict[str, RecordedRun]) -> list[Values]:
    groups = []
    for source, name in {**GROUPS, **LAST}.items():
        chosen = {run_name: Headline(source).select(run.rows) for run_name, run in runs.items()}
        metrics = metrics_of([row for rows in chosen.values() for row in rows], "accuracy")[:MOST_METRICS]
        drawn = [overlay(chosen, metric, name) for metric in metrics]
        if any(drawn):
            groups.append({"name": name, "charts": [chart for chart in drawn if chart]})
    assert {*GROUPS, *LAST} == SOURCES.keys()
    return groups


def _differing(runs: Sequence[RecordedRun]) -> list[Values]:
    settings = [settings_in(run.config) | chosen_in(run.config) for run in runs]
    keys = dict.fromkeys(key for table in settings for key in table)
    table = {key: [setting_text(table.get(key)) for table in settings] for key in keys}
    return [{"name": key, "cells": cells} for key, cells in table.items() if len({*cells}) > 1]


def _names(runs: Sequence[RecordedRun]) -> list[str]:
    """The folders' names; a second one of the same name, from another place, gets a number."""
    names: list[str] = []
    for run in runs:
        names.append(
            next(name for number in count(1) if (name := run.name + f" ({number})" * (number > 1)) not in names)
        )
    return names


COMPARISON = """
{% extends "base" %}
{% import "pieces" as pieces %}
{% block content %}
<header><h1>{{ title }}</h1>{% if notes %}<div class="notes">{% for note in notes %}<p>{{ note }}</p>{% endfor %}</div>
{% endif %}</header>

<section><h2>Results</h2><div class="card">{% call pieces.table(runs|length) %}
<thead><tr><th>run</th><th>accuracy</th><th>best</th><th>in round</th><th>loss</th><th>status</th><th>data set</th>
<th>strategy</th><th>rounds</th><th>figures from</th><th>time</th></tr></thead>
<tbody>{% for run in runs %}<tr><th><i class="dot" style="background: {{ run.colour }}"></i>{{ run.name }}</th>
<td>{{ run.accuracy|figure }}</td><td>{{ run.best_accuracy|figure }}</td>
<td>{{ run.best_round if run.best_round is not none else "–" }}</td><td>{{ run.loss|figure }}</td>
<td>{{ run.status }}</td><td>{{ run.dataset }}</td><td>{{ run.strategy }}</td><td>{{ run.rounds }}</td>
<td>{{ run.source or "–" }}</td><td>{{ run.seconds|seconds }}</td></tr>
{% endfor %}</tbody>{% endcall %}
<small>{{ figures_note }}</small></div></section>

<section><h2>Learning curves</h2>
{% if legend %}{{ pieces.legend(legend) }}{% endif %}
{% for group in groups %}<h3>{{ group.name }}</h3>
<div class="grid pair" style="margin-bottom: 1rem">
{% for chart in group.charts %}{{ pieces.chart(chart) }}{% endfor %}</div>
{% else %}<p class="soft">No round is finished yet.</p>{% endfor %}
</section>

<section><h2>Settings that differ</h2>
{% if settings %}<div class="card">{% call pieces.table(settings|length) %}
<thead><tr><th>setting</th>{% for run in runs %}<th class="run">{{ run.name }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in settings %}<tr><th>{{ row.name }}</th>
{% for value in row.cells %}<td>{{ value }}</td>{% endfor %}</tr>{% endfor %}</tbody>{% endcall %}</div>
{% else %}<p class="soft">None.</p>{% endif %}
</section>
{% endblock %}
"""
