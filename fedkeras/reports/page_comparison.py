"""The template of several runs side by side."""

COMPARISON = """
{% extends "base" %}
{% import "pieces" as pieces %}
{% block content %}
<header><h1>{{ title }}</h1>{% if notes %}<div class="notes">{% for note in notes %}<p>{{ note }}</p>{% endfor %}</div>
{% endif %}</header>

<section><h2>Results</h2><div class="card"><div class="scroll"><table>
<thead><tr><th>run</th><th>status</th><th>data set</th><th>strategy</th><th>rounds</th><th>figures from</th>
<th>loss</th><th>accuracy</th><th>best</th><th>in round</th><th>time</th></tr></thead>
<tbody>{% for run in runs %}<tr><th><i class="dot" style="background: {{ run.colour }}"></i>{{ run.name }}</th>
<td>{{ run.status }}</td><td>{{ run.dataset }}</td><td>{{ run.strategy }}</td><td>{{ run.rounds }}</td>
<td>{{ run.source or "–" }}</td><td>{{ run.loss|figure }}</td><td>{{ run.accuracy|figure }}</td>
<td>{{ run.best_accuracy|figure }}</td><td>{{ run.best_round if run.best_round is not none else "–" }}</td>
<td>{{ run.seconds|seconds }}</td></tr>
{% endfor %}</tbody></table></div>
<small>{{ figures_note }}</small></div></section>

<section><h2>Learning curves</h2>
{% if legend %}{{ pieces.legend(legend) }}{% endif %}
{% for group in groups %}<h3>{{ group.name }}</h3>
<div class="grid pair" style="margin-bottom: 1rem">
{% for chart in group.charts %}{{ pieces.chart(chart) }}{% endfor %}</div>
{% else %}<p class="soft">No round is finished yet.</p>{% endfor %}
</section>

<section><h2>Settings that differ</h2>
{% if settings %}<div class="card"><div class="scroll"><table>
<thead><tr><th>setting</th>{% for run in runs %}<th class="run">{{ run.name }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in settings %}<tr><th>{{ row.name }}</th>
{% for value in row.cells %}<td>{{ value }}</td>{% endfor %}</tr>{% endfor %}</tbody></table></div></div>
{% else %}<p class="soft">None.</p>{% endif %}
</section>
{% endblock %}
"""
