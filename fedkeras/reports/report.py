"""report.html: all that a run's folder holds, as one page. What is missing is stated where it would stand."""

from collections.abc import Sequence
from datetime import datetime
from numbers import Real
from pathlib import Path

import numpy as np

from fedkeras.atomic import replace_file
from fedkeras.callbacks import Row
from fedkeras.config import Config, Value, chosen_in, settings_in
from fedkeras.reports import charts, client_figures, grids
from fedkeras.reports import timing as timing_of
from fedkeras.reports.headline import best, best_title, figure
from fedkeras.reports.history import NO_METRICS
from fedkeras.reports.label_counts import LabelCounts
from fedkeras.reports.page import ReportSection, render, seconds
from fedkeras.reports.predictions import classification
from fedkeras.reports.run import RecordedRun, method_of, read_run
from fedkeras.reports.run_folder import JsonTable, RunFolder

Values = dict[str, object]
"""What a template, or a line of its tables, is filled with."""

MOST_CURVES = 9
"""Metrics that are drawn; a client may report any number."""
MOST_CLIENTS = 500
MOST_FAILURES = 200
MOST_BARS = 30
"""Clients up to which each has a bar of its labels."""


def write_report(folder: RunFolder, out: Path | None = None, sections: Sequence[ReportSection] = ()) -> Path:
    """Write the run's report, with these sections at its end; returns where.

    Raises UserError without a history, or where the disk refuses.
    """
    out = out or folder.report_path
    replace_file(out, report(read_run(folder.path), sections).encode("utf-8", errors="replace"))
    return out


def report(run: RecordedRun, sections: Sequence[ReportSection] = ()) -> str:
    """The page's text."""
    return render(
        RUN,
        title=run.name,
        status=run.status,
        subtitle=_subtitle(run.config, run.summary),
        notes=(*run.warnings, *run.faults),
        tiles=_tiles(run),
        made=f"Made by fedkeras, {datetime.now():%Y-%m-%d %H:%M}, from the files beside this page.",
        **_curves(run),
        **_clients(run),
        **_labels(run.labels),
        **_test(run),
        **_timing(run),
        **_failures(run),
        **_settings(run),
        sections=sections,
    )


def metrics_of(rows: list[Row], first: str) -> list[str]:
    """The metrics there are curves of: the loss, `first`, then the others in the order of their columns."""
    found = dict.fromkeys(key for row in rows for key, value in row.items() if isinstance(value, Real))
    others = [name for name in found if name not in (*NO_METRICS, first)]
    return [name for name in ("loss", first) if name in found] + others


def _subtitle(config: JsonTable, summary: JsonTable) -> str:
    if not config:
        return ""
    clients, rounds = config.get("num-partitions", "?"), config.get("num-server-rounds", "?")
    model = summary.get("model") or config.get("model") or "the data set's default model"
    return f"{config.get('dataset', '?')}, {method_of(config)}, {clients} clients, {rounds} rounds, {model}"


def _tiles(run: RecordedRun) -> list[Values]:
    shown = run.headline.select(run.rows)
    last, top, metric = (shown[-1] if shown else {}), best(shown), run.metric
    rounds = max((row["round"] for row in run.rows), default=0)
    where = f"{run.headline.source}, last round"
    wanted = run.config.get("num-server-rounds")
    return [
        {"name": metric, "value": _number(last.get(metric)), "more": where},
        {
            "name": best_title(shown, metric),
            "value": _number(top.get(metric)),
            "more": f"in round {top['round']}" if top else "",
        },
        *([] if metric == "loss" else [{"name": "loss", "value": _number(last.get("loss")), "more": where}]),
        {"name": "rounds", "value": str(rounds), "more": f"of {wanted}" if wanted else ""},
        {"name": "clients", "value": str(run.config.get("num-partitions", "–")), "more": _answered(run)},
        {"name": "time", "value": seconds(run.seconds), "more": ""},
    ]


def _answered(run: RecordedRun) -> str:
    failed = len(run.failures)
    return f"{failed} failure{'s' * (failed != 1)}"


def _curves(run: RecordedRun) -> Values:
    metrics = metrics_of(run.rows, run.metric)
    drawn = [charts.curve(run.rows, metric) for metric in metrics[:MOST_CURVES]]
    return {"curves": drawn, "curves_left": len(metrics) - len(drawn)}


def _clients(run: RecordedRun) -> Values:
    metric = run.metric
    table = client_figures.client_table(run.rows, run.failures, metric)
    chosen, where = client_figures.judged(run.rows, metric)
    maps = []
    trained = client_figures.client_rows(run.rows, "train")
    height = min(420.0, max(250.0, 80 + 9.0 * len(table)))
    for title, rows, column in ((metric, chosen, metric), ("Seconds of training", trained, "seconds")):
        if rows:
            values, first, clients = client_figures.matrix(rows, column)
            maps.append(grids.heat_map(f"{title}: round by client", values, first, clients, height))
    if maps and chosen:
        last = {client["client"]: client["last"] for client in table if client["last"] is not None}
        if last:  # not one is left where all have diverged
            maps.append(charts.ranked(last, f"{metric} of each client in its last round"))
    return {
        "metric": metric,
        "heat_maps": maps,
        "clients": table[:MOST_CLIENTS],
        "clients_left": max(0, len(table) - MOST_CLIENTS),
        "clients_where": f"on {where}" if where else "",
    }


def _labels(labels: LabelCounts | None) -> Values:
    absent = (
        "Not known here: the server writes it down (partitions.json) where it has the data, which it has not without "
        "central evaluation."
    )
    if labels is None:
        return {"labels": None, "labels_scheme": "", "label_rows": [], "labels_absent": absent}
    few = len(labels.clients) <= MOST_BARS and len(labels.classes) <= len(charts.SERIES)
    rows = [
        {"name": name, "all": int(column.sum()), "holders": int(np.count_nonzero(column)), "most": int(column.max())}
        for name, column in zip(labels.classes, labels.counts.T, strict=True)
    ]
    chart = charts.label_bars(labels) if few else grids.label_map(labels)
    return {"labels": chart, "labels_scheme": labels.scheme, "label_rows": rows, "labels_absent": ""}


def _test(run: RecordedRun) -> Values:
    absent = "Not known here: predictions.npz is written at the end of a run with central evaluation of a classifier."
    if run.predictions is None:
        return {"confusion": None, "classes": [], "tested": 0, "confusion_absent": absent}
    return {
        "confusion": grids.confusion(run.predictions),
        "classes": classification(run.predictions),
        "tested": len(run.predictions.labels),
        "confusion_absent": "",
    }


def _timing(run: RecordedRun) -> Values:
    spawn = run.config.get("spawn", 0)
    lines = timing_of.breakdown(run.timing, run.rows, spawn if isinstance(spawn, int) else 0)
    if not lines:
        return {"timing": None, "parts": [], "timing_note": ""}
    chart = charts.stacked_seconds(
        [line["round"] for line in lines], {name: [line[name] for line in lines] for name in timing_of.MEANINGS}
    )
    note = "" if run.timing else "This run has no timing.csv: transfer holds waiting and aggregation as well."
    return {"timing": chart, "parts": timing_of.totals(lines, run.seconds), "timing_note": note}


def _failures(run: RecordedRun) -> Values:
    shown = [{"round": "", "client": "", "reason": "", **row} for row in run.failures[:MOST_FAILURES]]
    left = len(run.failures) - len(shown)
    return {"failures": shown, "failures_left": left, "failures_absent": "No client failed in a round that counted."}


def _settings(run: RecordedRun) -> Values:
    """The run's settings, those among them that are not the defaults, and the versions it ran with."""
    default = Config().to_run_config()
    rows = [{"name": name, "value": setting_text(value)} for name, value in settings_in(run.config).items()]
    decided = [{"name": name, "value": text} for name, text in chosen_in(run.config).items()]
    changed = [row for row in rows if setting_text(default.get(row["name"])) != row["value"]]
    versions = run.summary.get("versions")
    words = [f"{name} {number}" for name, number in versions.items()] if isinstance(versions, dict) else []
    return {"settings": rows, "changed": changed, "chosen": decided, "versions": ", ".join(words)}


def setting_text(value: Value | None) -> str:
    """A setting as it would be typed; a dash where there is none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "–" if value is None else "unset" if value == "" else str(value)


def _number(value: float | str | None) -> str:
    return figure(value) if isinstance(value, Real) else "–"


RUN = """
{% extends "base" %}
{% import "pieces" as pieces %}
{% block content %}
<header>
<span class="badge {{ status }}">{{ status }}</span>
<h1>{{ title }}</h1>
<p class="soft">{{ subtitle }}</p>
{% if notes %}<div class="notes">{% for note in notes %}<p>{{ note }}</p>{% endfor %}</div>{% endif %}
<div class="tiles">{% for tile in tiles %}{{ pieces.tile(tile) }}{% endfor %}</div>
<nav><a href="#curves">Curves</a><a href="#clients">Clients</a><a href="#labels">Labels</a><a href="#test">Test set</a>
<a href="#timing">Timing</a><a href="#failures">Failures</a><a href="#settings">Settings</a>
{% for section in sections %}<a href="#added-{{ loop.index }}">{{ section.title }}</a>{% endfor %}</nav>
</header>

<section id="curves"><h2>Learning curves</h2>
{% if curves %}
<div class="grid pair">{% for chart in curves %}{{ pieces.chart(chart) }}{% endfor %}</div>
{% if curves_left %}<p class="soft">{{ curves_left }} more metrics are in history.csv.</p>{% endif %}
{% else %}<p class="soft">No round is finished yet.</p>{% endif %}
</section>

<section id="clients"><h2>Clients</h2>
{% if clients %}
<div class="grid">
{% for chart in heat_maps %}{{ pieces.chart(chart) }}{% endfor %}
<div class="card full"><h3>{{ metric }}, examples and time by client</h3>
<div class="scroll"><table>
<thead><tr><th>client</th><th>examples</th><th>tested on</th><th>rounds</th><th>failures</th>
<th>last</th><th>lowest</th><th>highest</th><th>seconds</th></tr></thead>
<tbody>{% for client in clients %}
<tr><th>{{ client.client }}</th><td>{{ client.examples if client.examples is not none else "–" }}</td>
<td>{{ client.tested if client.tested is not none else "–" }}</td><td>{{ client.rounds }}</td>
<td>{{ client.failures or "" }}</td><td>{{ client.last|figure }}</td><td>{{ client.lowest|figure }}</td>
<td>{{ client.highest|figure }}</td><td>{{ client.seconds|figure }}</td></tr>
{% endfor %}</tbody></table></div>
<small>{{ metric }} {{ clients_where }}; rounds trained in; seconds of computing, mean of a round's training.
{% if clients_left %}{{ clients_left }} more clients are in history.csv.{% endif %}</small></div>
</div>
{% else %}<p class="soft">No client has answered yet.</p>{% endif %}
</section>

<section id="labels"><h2>Who holds what</h2>
{% if labels %}<p class="soft">{{ labels_scheme }}</p><div class="grid">{{ pieces.chart(labels) }}
<div class="card wide"><h3>Examples by label</h3><div class="scroll"><table>
<thead><tr><th>label</th><th>all</th><th>clients</th><th>most in one</th></tr></thead>
<tbody>{% for row in label_rows %}<tr><th>{{ row.name }}</th><td>{{ row.all }}</td><td>{{ row.holders }}</td>
<td>{{ row.most }}</td></tr>{% endfor %}</tbody></table></div>
<small>Examples of a label, how many clients hold any, and the most that one of them has.</small></div></div>
{% else %}<p class="soft">{{ labels_absent }}</p>{% endif %}
</section>

<section id="test"><h2>The final model on the central test set</h2>
{% if confusion %}<div class="grid">{{ pieces.chart(confusion) }}
{{ pieces.by_class(classes, tested) }}</div>
{% else %}<p class="soft">{{ confusion_absent }}</p>{% endif %}
</section>

<section id="timing"><h2>Where the time went</h2>
{% if timing %}<div class="grid">{{ pieces.chart(timing) }}
<div class="card wide"><h3>All rounds together</h3><div class="scroll whole"><table>
<thead><tr><th>part</th><th>time</th><th>share</th><th></th></tr></thead>
<tbody>{% for part in parts %}<tr><th class="part">{{ part.name }}<small>{{ part.what }}</small></th>
<td>{{ part.seconds|seconds }}</td>
<td>{{ "%.1f"|format(100 * part.share) }} %</td>
<td class="bars">
<span class="bar" style="width: {{ "%.1f"|format(100 * part.share) }}%"></span></td></tr>
{% endfor %}</tbody></table></div>
{% if timing_note %}<small>{{ timing_note }}</small>{% endif %}</div></div>
{% else %}<p class="soft">No round is finished yet.</p>{% endif %}
</section>

<section id="failures"><h2>Failures</h2>
{% if failures %}<div class="card"><div class="scroll"><table>
<thead><tr><th>round</th><th>client</th><th class="text">reason</th></tr></thead>
<tbody>{% for row in failures %}<tr><td>{{ row.round }}</td><td>{{ row.client }}</td>
<td class="text">{{ row.reason }}</td></tr>{% endfor %}</tbody></table></div>
{% if failures_left %}<small>{{ failures_left }} more are in failures.csv.</small>{% endif %}</div>
{% else %}<p class="soft">{{ failures_absent }}</p>{% endif %}
</section>

<section id="settings"><h2>What was run</h2>
{% if changed %}<div class="grid"><div class="card full"><h3>Settings that are not the defaults</h3>
<div class="scroll"><table><tbody>{% for row in changed %}<tr><th>{{ row.name }}</th>
<td class="text">{{ row.value }}</td></tr>{% endfor %}</tbody></table></div></div></div>{% endif %}
{% if chosen %}<div class="grid"><div class="card full"><h3>What no setting said, and the run decided</h3>
<div class="scroll"><table><tbody>{% for row in chosen %}<tr><th>{{ row.name }}</th>
<td class="text">{{ row.value }}</td></tr>{% endfor %}</tbody></table></div></div></div>{% endif %}
{% if settings %}<details><summary>all {{ settings|length }} settings</summary><div class="card"><table><tbody>
{% for row in settings %}<tr><th>{{ row.name }}</th><td class="text">{{ row.value }}</td></tr>{% endfor %}
</tbody></table></div></details>{% else %}<p class="soft">There is no config.json that can be read.</p>{% endif %}
{% if versions %}<p class="soft">{{ versions }}</p>{% endif %}
</section>
{% for section in sections %}
<section id="added-{{ loop.index }}"><h2>{{ section.title }}</h2>
{{ section.html }}
</section>
{% endfor %}
{% endblock %}
"""
