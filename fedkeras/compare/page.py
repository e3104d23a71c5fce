"""comparison.html and the other files that a comparison leaves, written from the results of its finished arm runs."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from fedkeras.atomic import replace_file
from fedkeras.compare import charts, pictures, table, words
from fedkeras.compare.arm_run import ArmResult
from fedkeras.compare.differences import metric_of, paired_differences
from fedkeras.compare.settings import Settings
from fedkeras.config import Config
from fedkeras.reports.page import render
from fedkeras.reports.report import setting_text
from fedkeras.reports.run_folder import JsonTable
from fedkeras.reports.summary import versions

PAGE = """
{% extends "base" %}
{% import "pieces" as pieces %}
{% block content %}
<header><h1>{{ title }}</h1><p class="soft">{{ subtitle }}</p>
{% if notes %}<div class="notes">{% for note in notes %}<p>{{ note }}</p>{% endfor %}</div>{% endif %}
</header>

<section><h2>What the numbers say</h2>
<p>{{ words }}</p>
</section>

<section><h2>Table</h2><div class="card">{% call pieces.table(0, True, "whole") %}
<thead><tr><th></th><th colspan="3" style="text-align: center">central test set</th>
<th colspan="{{ heads|length - 6 }}" style="text-align: center">own test sets, by client</th><th colspan="2"></th></tr>
<tr>{% for head in heads %}<th>{{ head }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in rows %}<tr><th><i class="dot" style="background: {{ row.colour }}"></i>{{ row.cells[0] }}</th>
{% for cell in row.cells[1:] %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody>{% endcall %}
<small>{{ table_note }}</small></div></section>

{% if differences %}<section><h2>Differences</h2>
<div class="grid pair">{% for chart in differences %}{{ pieces.chart(chart) }}{% endfor %}
<div class="card">{% call pieces.table(0, True, "whole") %}
<thead><tr>{% for head in difference_heads %}<th>{{ head }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in difference_rows %}<tr><th class="part">{{ row[0] }}</th>
{% for cell in row[1:] %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody>{% endcall %}</div></div>
<p class="soft">{{ differences_note }}</p></section>{% endif %}

<section><h2>Learning curves</h2>{{ pieces.legend(legend) }}
<div class="grid pair">{% for chart in curves %}{{ pieces.chart(chart) }}{% endfor %}</div>
<p class="soft">{{ curves_note }}</p></section>

{% if clients %}<section><h2>Clients</h2>{{ pieces.legend(legend) }}
<div class="grid pair">{% for chart in clients %}{{ pieces.chart(chart) }}{% endfor %}</div>
<p class="soft">{{ clients_note }}</p></section>{% endif %}

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
    "Arms with the same seed have the same partitions, initial weights, batch size and epochs. centralised trains on "
    "the clients' training parts together, local on each client's own; both are tested after as many epochs as a "
    "federated round has. Their optimizer goes on from round to round, where a federated client's starts afresh. No "
    "arm trains on the central test set, or on what a client holds out.",
    "Scaling and class weights, where rows decide them, are learned from the rows that an arm trains on: centralised "
    "takes all clients' together, local each client's own alone; federated clients send statistics, which are merged.",
    "Of local there is one model a client: accuracy, macro F1 and loss are means over clients. Own test sets: each "
    "client's held-out examples, tested with the model that the arm gives this client.",
    "Two arms are compared by their differences with the same seed: mean, and 95 % interval by Student's t from the "
    "sample deviation of the differences, which is taken to be one example of the test set at least. Each way to train "
    "together is compared with each baseline and with each other one, and all these intervals hold together with 95 %, "
    "by Bonferroni's inequality. They are about other seeds, with these data and this test set: not about other data. "
    "Who adds seeds until a difference shows finds one by chance more often than that.",
    "Seconds are the rounds' time on the clock, once everything runs: the median round, with training, exchange and "
    "evaluation, times the number of rounds; starting processes, reading data and compiling are not in it. Federated "
    "and split arms and local share the processes; centralised uses one, with as many threads as a client. Of local it "
    "is the clients' seconds together, divided by the number of processes.",
    "MB: arrays sent up and down in training and evaluation. What centralised training would have to collect first is "
    "not counted.",
)


def write_all(settings: Settings, results: Sequence[ArmResult], failures: Mapping[str, str], folder: Path) -> None:
    """Write table.csv, summary.json, the pictures and comparison.html. Raises UserError if the disk refuses."""
    replace_file(folder / "table.csv", table.table_csv(results).encode())
    summary = summarise(settings, results, failures)
    replace_file(folder / "summary.json", f"{json.dumps(summary, indent=1)}\n".encode())
    found = paired_differences(results)
    for name, painters in {"curves": pictures.curves(results), "clients": pictures.clients(results)}.items():
        if painters:
            replace_file(folder / f"{name}.png", pictures.png(painters, results))
    if painters := pictures.differences(results, found):
        drawn = pictures.png(painters, results, pictures.height_of(found) + 20, legend=False)
        replace_file(folder / "differences.png", drawn)
    replace_file(folder / "comparison.html", page(settings, results, failures, folder.name).encode())


def summarise(settings: Settings, results: Sequence[ArmResult], failures: Mapping[str, str]) -> JsonTable:
    """summary.json: table, differences and sentences for a script; means and deviations over seeds."""
    finished = len(results) == len(settings.parsed_arms) * settings.repeats
    return {
        "status": "finished" if finished else "failed" if failures else "interrupted",
        "dataset": settings.config.dataset,
        "clients": settings.config.num_partitions,
        "rounds": settings.config.num_server_rounds,
        "repeats": settings.repeats,
        "arms": [dataclasses.asdict(line) for line in table.lines_of(results)],
        "differences": [
            dataclasses.asdict(one) | {"mean": one.mean, "shown": one.shown} for one in paired_differences(results)
        ],
        "words": words.paragraph(results),
        "failures": dict(failures),
        "versions": versions(),
    }


def page(settings: Settings, results: Sequence[ArmResult], failures: Mapping[str, str], title: str) -> str:
    """The page's text."""
    config, lines, legend = settings.config, table.lines_of(results), charts.legend(results)
    found = paired_differences(results)
    notes = [f"{arm} failed: {reason}" for arm, reason in failures.items()]
    missing = len(settings.parsed_arms) * settings.repeats - len(results)
    if missing:
        notes.append(
            f"{missing} of {len(results) + missing} arm runs are missing; the figures are those of the others."
        )
    if config.fraction_train < 1:
        share = f"Only {config.fraction_train:.0%} of the clients train in a round of the federated arms"
        notes.append(f"{share}: they see so much fewer epochs than centralised and local do.")
    default = Config().to_run_config()
    changed = [(name, setting_text(value)) for name, value in config.to_run_config().items() if value != default[name]]
    return render(
        PAGE,
        title=title,
        subtitle=f"{config.dataset}, {config.num_partitions} clients ({config.partitioner}), "
        f"{config.num_server_rounds} rounds of {config.local_epochs} epochs, {_seeds(settings)}",
        notes=notes,
        words=" ".join(words.paragraph(results)),
        heads=table.heads_of(lines),
        rows=[{"cells": table.cells_of(line, table.heads_of(lines)), "colour": legend[line.arm][0]} for line in lines],
        table_note=_note(settings),
        differences=charts.differences(results, found),
        difference_heads=table.difference_heads(metric_of(results)),
        difference_rows=[table.difference_cells(one) for one in found],
        differences_note="A dot a seed; a diamond is their mean, filled where the 95 % interval excludes zero. All "
        "intervals hold together.",
        legend=legend,
        curves=charts.curves(results),
        curves_note="Means over seeds; a band reaches from the lowest to the highest, of local over clients too.",
        clients=charts.clients(results),
        clients_note="Means over seeds, with a line from the lowest to the highest. Lines across: the other arms' one "
        "model on the central test set.",
        method=METHOD,
        settings=[("arms", settings.arms), ("repeats", settings.repeats), *changed],
        versions=", ".join(f"{name} {number}" for name, number in versions().items()),
        made=f"Made by fedkeras, {datetime.now():%Y-%m-%d %H:%M}, from the results beside this page.",
    )


def _note(settings: Settings) -> str:
    many = (
        f"Means over {settings.repeats} seeds \N{PLUS-MINUS SIGN} sample standard deviation"
        if settings.repeats > 1
        else "One seed"
    )
    return (
        f"{many}. By client: each counts once; worst 10 % is the mean of a tenth of the clients, rounded up; the "
        "variance is in squared points of accuracy."
    )


def _seeds(settings: Settings) -> str:
    first, last = settings.seeds[0], settings.seeds[-1]
    return f"seed {first}" if first == last else f"seeds {first} to {last}"
