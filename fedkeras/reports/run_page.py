"""The template of a run's page, which report.py fills."""

RUN = """
{% extends "base" %}
{% import "pieces" as pieces %}
{% macro added(place) %}
{% for section in sections if section.after == place %}
<section id="{{ section.anchor }}"><h2>{{ section.title }}</h2>
{{ section.html }}
</section>
{% endfor %}
{% endmacro %}
{% block content %}
<header>
<span class="badge {{ status }}">{{ status }}</span>
<h1>{{ title }}</h1>
<p class="soft">{{ subtitle }}</p>
{% if reload %}<p class="soft">{{ reload.note }}</p>{% endif %}
{% if notes %}<div class="notes">{% for note in notes %}<p>{{ note }}</p>{% endfor %}</div>{% endif %}
<div class="tiles">{% for tile in tiles %}{{ pieces.tile(tile) }}{% endfor %}</div>
<nav>{% for section in sections if section.after == "start" %}
<a href="#{{ section.anchor }}">{{ section.title }}</a>{% endfor %}
{% for name, title in names.items() if name not in replaced %}<a href="#{{ name }}">{{ title }}</a>
{% for section in sections if section.after == name %}
<a href="#{{ section.anchor }}">{{ section.title }}</a>{% endfor %}
{% endfor %}
{% for section in sections if not section.after %}
<a href="#{{ section.anchor }}">{{ section.title }}</a>{% endfor %}</nav>
</header>
{{ added("start") }}

{% if "curves" not in replaced %}
<section id="curves"><h2>Learning curves</h2>
{% if curves %}
<div class="grid pair">{% for chart in curves %}{{ pieces.chart(chart) }}{% endfor %}</div>
{% if curves_left %}<p class="soft">{{ curves_left }} more metrics are in history.csv.</p>{% endif %}
{% else %}<p class="soft">No round is finished yet.</p>{% endif %}
</section>
{% endif %}
{{ added("curves") }}

{% if "clients" not in replaced %}
<section id="clients"><h2>Clients</h2>
{% if clients %}
<div class="grid">
{% for chart in heat_maps %}{{ pieces.chart(chart) }}{% endfor %}
<div class="card full"><h3>{{ metric }}, examples and time by client</h3>
{% call pieces.table(clients|length) %}
<thead><tr><th>client</th><th>last</th><th>lowest</th><th>highest</th>
<th>examples</th><th>tested on</th><th>rounds</th><th>failures</th><th>seconds</th></tr></thead>
<tbody>{% for client in clients %}
<tr><th>{{ client.client }}</th><td>{{ client.last|figure }}</td><td>{{ client.lowest|figure }}</td>
<td>{{ client.highest|figure }}</td><td>{{ client.examples if client.examples is not none else "–" }}</td>
<td>{{ client.tested if client.tested is not none else "–" }}</td><td>{{ client.rounds }}</td>
<td>{{ client.failures or "" }}</td><td>{{ client.seconds|figure }}</td></tr>
{% endfor %}</tbody>{% endcall %}
<small>{{ metric }} {{ clients_where }}; rounds trained in; seconds of computing, mean of a round's training.
{% if clients_left %}{{ clients_left }} more clients are in history.csv.{% endif %}</small></div>
{% if apart %}<div class="card full"><h3>{{ metric }} between clients</h3>
{% call pieces.table(1) %}
<thead><tr><th></th><th>mean</th><th>worst 10 %</th><th>lowest</th><th>highest</th><th>variance</th></tr></thead>
<tbody><tr><th>{{ apart.clients }} clients</th><td>{{ apart.mean|figure }}</td><td>{{ apart.worst_tenth|figure }}</td>
<td>{{ apart.lowest|figure }}</td><td>{{ apart.highest|figure }}</td>
<td>{{ apart.points ~ " points²" if metric == "accuracy" else apart.variance|figure }}</td></tr></tbody>{% endcall %}
<small>On what each client held out, in the last round with a test. Each client counts once, so this mean is not the one
that is weighted by examples; worst 10 %: the mean of a tenth of the clients, rounded up.</small></div>{% endif %}
</div>
{% else %}<p class="soft">{{ clients_absent }}</p>{% endif %}
</section>
{% endif %}
{{ added("clients") }}

{% if "labels" not in replaced %}
<section id="labels"><h2>Who holds what</h2>
{% if labels %}<p class="soft">{{ labels_scheme }}</p><div class="grid">{{ pieces.chart(labels) }}
<div class="card {{ "full" if labels.width else "wide" }}"><h3>Examples by label</h3>
{% call pieces.table(label_rows|length, False) %}
<thead><tr><th>label</th><th>all</th><th>clients</th><th>most in one</th></tr></thead>
<tbody>{% for row in label_rows %}<tr><th>{{ row.name }}</th><td>{{ row.all }}</td><td>{{ row.holders }}</td>
<td>{{ row.most }}</td></tr>{% endfor %}</tbody>{% endcall %}
<small>Examples of a label, how many clients hold any, and the most that one of them has.</small></div></div>
{% else %}<p class="soft">{{ labels_absent }}</p>{% endif %}
</section>
{% endif %}
{{ added("labels") }}

{% if "test" not in replaced %}
<section id="test"><h2>The final model on the central test set</h2>
{% if confusion %}<div class="grid">{{ pieces.chart(confusion) }}
{{ pieces.by_class(classes, tested, confusion.width > 0) }}</div>
{% else %}<p class="soft">{{ confusion_absent }}</p>{% endif %}
</section>
{% endif %}
{{ added("test") }}

{% if "timing" not in replaced %}
<section id="timing"><h2>Where the time went</h2>
{% if timing %}<div class="grid">{{ pieces.chart(timing) }}
<div class="card wide"><h3>All rounds together</h3>{% call pieces.table(0, False, "whole") %}
<thead><tr><th>part</th><th>time</th><th>share</th><th></th></tr></thead>
<tbody>{% for part in parts %}<tr><th class="part">{{ part.name }}<small>{{ part.what }}</small></th>
<td>{{ part.seconds|seconds }}</td>
<td>{{ "%.1f"|format(100 * part.share) }} %</td>
<td class="bars">
<span class="bar" style="width: {{ "%.1f"|format(100 * part.share) }}%"></span></td></tr>
{% endfor %}</tbody>{% endcall %}
{% if timing_note %}<small>{{ timing_note }}</small>{% endif %}</div>
{% if traffic %}{{ pieces.chart(traffic) }}{% endif %}</div>
{% else %}<p class="soft">No round is finished yet.</p>{% endif %}
</section>
{% endif %}
{{ added("timing") }}

{% if "failures" not in replaced %}
<section id="failures"><h2>Failures</h2>
{% if failures %}<div class="card">{% call pieces.table(failures|length, False) %}
<thead><tr><th>round</th><th>client</th><th class="text">reason</th></tr></thead>
<tbody>{% for row in failures %}<tr><td>{{ row.round }}</td><td>{{ row.client }}</td>
<td class="text">{{ row.reason }}</td></tr>{% endfor %}</tbody>{% endcall %}
{% if failures_left %}<small>{{ failures_left }} more are in failures.csv.</small>{% endif %}</div>
{% else %}<p class="soft">{{ failures_absent }}</p>{% endif %}
</section>
{% endif %}
{{ added("failures") }}

{% if "settings" not in replaced %}
<section id="settings"><h2>What was run</h2>
{% if changed %}<div class="grid"><div class="card full"><h3>Settings that are not the defaults</h3>
{% call pieces.table(changed|length, False) %}<tbody>{% for row in changed %}<tr><th>{{ row.name }}</th>
<td class="text">{{ row.value }}</td></tr>{% endfor %}</tbody>{% endcall %}</div></div>{% endif %}
{% if chosen %}<div class="grid"><div class="card full"><h3>What no setting said, and the run decided</h3>
{% call pieces.table(chosen|length, False) %}<tbody>{% for row in chosen %}<tr><th>{{ row.name }}</th>
<td class="text">{{ row.value }}</td></tr>{% endfor %}</tbody>{% endcall %}</div></div>{% endif %}
{% if settings %}<details><summary>all {{ settings|length }} settings</summary><div class="card"><table><tbody>
{% for row in settings %}<tr><th>{{ row.name }}</th><td class="text">{{ row.value }}</td></tr>{% endfor %}
</tbody></table></div></details>{% else %}<p class="soft">There is no config.json that can be read.</p>{% endif %}
{% if versions %}<p class="soft">{{ versions }}</p>{% endif %}
</section>
{% endif %}
{{ added("settings") }}
{{ added("") }}
{% endblock %}
"""
