"""report.html of a training without federation (`fedkeras train`): curves by epoch, classes, and what was run."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from fedkeras.atomic import replace_file
from fedkeras.config import Config, chosen_in, settings_in
from fedkeras.reports import charts, grids
from fedkeras.reports.curves import EPOCHS
from fedkeras.reports.headline import figure
from fedkeras.reports.page import render, seconds
from fedkeras.reports.predictions import classification
from fedkeras.reports.report import MOST_CURVES, metrics_of, setting_text
from fedkeras.reports.run import LOCAL, RecordedRun, read_run
from fedkeras.reports.run_folder import JsonTable, RunFolder

PAGE = """
{% extends "base" %}
{% import "pieces" as pieces %}
{% block content %}
<header>
<span class="badge {{ status }}">{{ status }}</span>
<h1>{{ title }}</h1>
<p class="soft">{{ subtitle }}</p>
{% if notes %}<div class="notes">{% for note in notes %}<p>{{ note }}</p>{% endfor %}</div>{% endif %}
<div class="tiles">{% for tile in tiles %}{{ pieces.tile(tile) }}{% endfor %}</div>
</header>

<section><h2>Learning curves</h2>
{% if curves %}<div class="grid pair">{% for chart in curves %}{{ pieces.chart(chart) }}{% endfor %}</div>
{% else %}<p class="soft">No epoch is finished yet.</p>{% endif %}
</section>

<section><h2>The model on {{ tested_on }}</h2>
{% if confusion %}<div class="grid">{{ pieces.chart(confusion) }}
{{ pieces.by_class(classes, tested, confusion.width > 0) }}</div>
{% else %}<p class="soft">Nothing to show: there is no test set, or the model is no classifier of it.</p>{% endif %}
</section>

<section><h2>What was run</h2><div class="grid">
{% if chosen %}<div class="card full"><h3>What no setting said, and was decided</h3>
{% call pieces.table(chosen|length, False) %}<tbody>
{% for row in chosen %}<tr><th>{{ row[0] }}</th><td class="text">{{ row[1] }}</td></tr>{% endfor %}
</tbody>{% endcall %}</div>{% endif %}
<div class="card full"><h3>Settings that are not the defaults</h3>
{% call pieces.table(changed|length, False) %}<tbody>
{% for row in changed %}<tr><th>{{ row[0] }}</th><td class="text">{{ row[1] }}</td></tr>{% endfor %}
</tbody>{% endcall %}</div></div>
<p class="soft">{{ versions }}</p>
</section>
{% endblock %}
"""


def write_local_page(folder: RunFolder, out: Path | None = None) -> Path:
    """Write the page from the folder's files; returns where. Raises UserError without a history."""
    out = out or folder.report_path
    replace_file(out, local_page(read_run(folder.path)).encode("utf-8", errors="replace"))
    return out


def local_page(run: RecordedRun) -> str:
    """The page's text."""
    found, default = run.predictions, Config().to_run_config() | {"mode": LOCAL}
    changed = [(name, setting_text(value)) for name, value in settings_in(run.config).items()]
    return render(
        PAGE,
        title=run.name,
        status=run.status,
        subtitle=_subtitle(run.config, run.summary),
        notes=(*run.warnings, *run.faults),
        tiles=_tiles(run),
        curves=[charts.curve(run.rows, metric, EPOCHS) for metric in metrics_of(run.rows, run.metric)[:MOST_CURVES]],
        tested_on=run.summary.get("tested_on") or "a test set",
        confusion=None if found is None else grids.confusion(found),
        classes=[] if found is None else classification(found),
        tested=0 if found is None else len(found.labels),
        chosen=[*chosen_in(run.config).items()],
        changed=[row for row in changed if setting_text(default.get(row[0])) != row[1]],
        versions=", ".join(f"{name} {number}" for name, number in (run.summary.get("versions") or {}).items()),
        made=f"Made by fedkeras, {datetime.now():%Y-%m-%d %H:%M}, from the files beside this page.",
    )


def _subtitle(config: JsonTable, summary: JsonTable) -> str:
    model, whose = summary.get("model") or "?", summary.get("trained_on") or config.get("dataset", "?")
    return f"{model}, trained by itself on {whose}"


def _tiles(run: RecordedRun) -> Sequence[dict[str, str]]:
    shown = run.headline.select(run.rows)
    last, where = (shown[-1] if shown else {}), EPOCHS.labels[run.headline.source]
    names = [run.metric] if run.metric == "loss" else [run.metric, "loss"]
    epochs = max((row["round"] for row in run.rows), default=0)
    counts = {"examples": run.summary.get("examples", "–"), "epochs": epochs}
    return [
        *({"name": name, "value": figure(last.get(name)), "more": f"{where}, last epoch"} for name in names),
        *({"name": name, "value": str(count), "more": ""} for name, count in counts.items()),
        {"name": "time", "value": seconds(run.seconds), "more": ""},
    ]
