"""study.html and the other files that a study leaves, written from the results of its finished cell runs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from fedkeras.atomic import replace_file
from fedkeras.config import Config
from fedkeras.reports.page import render
from fedkeras.reports.report import setting_text
from fedkeras.reports.run_folder import JsonTable
from fedkeras.reports.summary import versions
from fedkeras.study import charts, table, words
from fedkeras.study.grid import Cell, Condition
from fedkeras.study.settings import StudySettings

PAGE = """
{% extends "base" %}
{% import "pieces" as pieces %}
{% block content %}
<header><h1>{{ title }}</h1><p class="soft">{{ subtitle }}</p>
<div class="notes">{% for note in notes %}<p>{{ note }}</p>{% endfor %}</div>
</header>

<section><h2>What the numbers say</h2>
{% for paragraph in words %}<p>{{ paragraph }}</p>{% endfor %}
</section>

{% for part in parts %}
<section><h2>{{ part.name }}</h2>
<div class="grid pair">{% for chart in part.maps %}{{ pieces.chart(chart) }}{% endfor %}</div>
{% if part.curves %}{{ pieces.legend(legend) }}
<div class="grid pair">{% for chart in part.curves %}{{ pieces.chart(chart) }}{% endfor %}</div>{% endif %}
{% for name, lines in part.tables %}<div class="card"><h3>{{ name }}</h3>{% call pieces.table(0, True, "whole") %}
<thead><tr>{% for head in lines[0] %}<th>{{ head }}</th>{% endfor %}</tr></thead>
<tbody>{% for line in lines[1:] %}<tr><th>{{ line[0] }}</th>
{% for cell in line[1:] %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody>{% endcall %}</div>{% endfor %}
</section>
{% endfor %}

<section><h2>How it was measured</h2>
{% for sentence in method %}<p>{{ sentence }}</p>{% endfor %}
</section>

<section><h2>Settings that are not the defaults</h2><div class="card">
{% call pieces.table(settings|length, False) %}<tbody>
{% for row in settings %}<tr><th>{{ row[0] }}</th><td class="text">{{ row[1] }}</td></tr>{% endfor %}
</tbody>{% endcall %}</div><p class="soft">{{ versions }}</p></section>
{% endblock %}
"""

METHOD = (
    "Some clients of every run under an attack were made malicious on purpose. Who they are is drawn from the seed "
    "alone, so every defence meets the same; a larger fraction has a smaller one's among them. An attack knows what "
    "colluding clients could know; a defence is told what it is built for, once for the whole study, and never who is "
    "malicious.",
    "Cells with the same seed have the same partitions, initial weights and cohorts. Accuracy is the global model's on "
    "the central test set, which no client has seen; that of a run whose loss is no number counts as 0. The best round "
    "is chosen on that same test set, and so flatters every defence: published tables often show it; the last round is "
    "what a run would have given. A defence is broken where less than --broken of its accuracy above a guess (naming "
    "the commonest label) is left; by a backdoor, which leaves the accuracy alone, where more than half of the "
    "attacked test examples end where it wants them.",
    "Two defences are compared by their differences with the same seed in the last round: mean, and 95 % interval by "
    "Student's t; all intervals of the study hold together, by Bonferroni's inequality.",
)


def write_all(settings: StudySettings, results: table.Results, failures: Mapping[Cell, str], folder: Path) -> None:
    """Write study.csv, summary.json and study.html. Raises UserError if the disk refuses."""
    cells = settings.cells
    replace_file(folder / "study.csv", table.study_csv(cells, results).encode())
    replace_file(folder / "summary.json", f"{json.dumps(summarise(settings, results, failures), indent=1)}\n".encode())
    replace_file(folder / "study.html", page(settings, results, failures, folder.name).encode())


def summarise(settings: StudySettings, results: table.Results, failures: Mapping[Cell, str]) -> JsonTable:
    """summary.json: figures by cell, breakdown points and sentences for a script."""
    cells = settings.cells
    complete = len(results) == len(cells) * settings.repeats
    return {
        "status": "finished" if complete else "failed" if failures else "interrupted",
        "dataset": settings.config.dataset,
        "clients": settings.config.num_partitions,
        "rounds": settings.config.num_server_rounds,
        "repeats": settings.repeats,
        "cells": [_cell(cell, results) for cell in cells],
        "breakdowns": [
            {"condition": condition.name, **asdict(one)}
            for condition in table.conditions_of(cells)
            for one in table.breakdowns(cells, results, condition, settings.broken)
        ],
        "words": words.paragraphs(cells, results, settings.broken),
        "failures": {f"{cell.condition.name} {cell.arm.name}".strip(): reason for cell, reason in failures.items()},
        "versions": versions(),
    }


def _cell(cell: Cell, results: table.Results) -> JsonTable:
    figures = {which: table.figure_of(results, cell, which) for which in ("last", "best")}
    return {
        "condition": cell.condition.name,
        "defence": cell.defence,
        "attack": cell.attack,
        "malicious": cell.malicious,
        **{which: None if one is None else asdict(one) for which, one in figures.items()},
    }


def _success(cells: Sequence[Cell], results: table.Results, condition: Condition) -> list[tuple[str, list[list[str]]]]:
    lines = table.success_lines(cells, results, condition)
    return [("The attack's success, last round", lines)] if lines else []


def page(settings: StudySettings, results: table.Results, failures: Mapping[Cell, str], title: str) -> str:
    """The page's text."""
    cells, config = settings.cells, settings.config
    notes = ["Not a run of honest clients: some were made malicious, to see which defence withstands them."]
    notes += [f"{cell.arm.name} failed: {reason}" for cell, reason in failures.items()]
    if missing := len(cells) * settings.repeats - len(results):
        notes.append(
            f"{missing} of {len(results) + missing} cell runs are missing; the figures are those of the others."
        )
    default = Config().to_run_config()
    changed = [(name, setting_text(value)) for name, value in config.to_run_config().items() if value != default[name]]
    own = [(name, setting_text(getattr(settings, name))) for name in ("attacks", "defences", "malicious", "conditions")]
    parts = [
        {
            "name": condition.name or "Defences by attacks",
            "maps": [charts.heat_map(cells, results, condition, which) for which in ("last", "best")],
            "curves": charts.by_fraction(cells, results, condition),
            "tables": [
                (f"Accuracy, {which} round", table.lines_of(cells, results, condition, which))
                for which in ("last", "best")
            ]
            + _success(cells, results, condition),
        }
        for condition in table.conditions_of(cells)
    ]
    many = f"{settings.repeats} seeds" if settings.repeats > 1 else "one seed"
    return render(
        PAGE,
        title=title,
        subtitle=f"{config.dataset}, {config.num_partitions} clients, {config.num_server_rounds} rounds of "
        f"{config.local_epochs} epochs, {many}",
        notes=notes,
        words=words.paragraphs(cells, results, settings.broken),
        parts=parts,
        legend=charts.legend(cells),
        method=METHOD,
        settings=[*own, ("repeats", settings.repeats), ("broken", settings.broken), *changed],
        versions=", ".join(f"{name} {number}" for name, number in versions().items()),
        made=f"Made by fedkeras, {datetime.now():%Y-%m-%d %H:%M}, from the results beside this page.",
    )
