"""From a template and figures to one HTML page that needs nothing else: no script, no network.

A page's own template stands beside the code that fills it (run_page.py, comparison.py); here is what all pages share:
their frame, their pieces, their style sheet. Everything that is not a chart of our own is escaped: names of metrics,
clients and classes come from outside. Templates are Python text, since Flower's app bundle takes no other files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

from fedkeras.reports.headline import figure, finite

if TYPE_CHECKING:
    from jinja2 import Environment, Template

Cell = float | int | str | None
"""A cell of a table: whole numbers and text as they are, other numbers to four places, a dash for None."""


@dataclass(frozen=True)
class ReportSection:
    """What a workflow or a mod adds to a run's page. `html` is not escaped any more: have it made by `section`."""

    title: str
    html: Markup
    after: str = ""
    """The section of the page (curves, clients, ...) that it follows, or start; unset: it stands at the end."""
    instead_of: Sequence[str] = ()
    """Sections of the page that say nothing of this way to train, and are left out."""


class Reload(NamedTuple):
    """Of a page that is drawn again meanwhile: seconds after which a browser reads it again, and what it says of it."""

    seconds: int
    note: str


def section(
    title: str, paragraphs: Sequence[str] = (), heads: Sequence[str] = (), rows: Sequence[Sequence[Cell]] = ()
) -> ReportSection:
    """A section of paragraphs and, below them, a table: heads, and rows of as many cells; none without rows.

    All text is escaped. Raises ValueError for a row of another length.
    """
    for row in rows:
        if len(row) != len(heads):
            raise ValueError(f"a row of {len(row)} cells does not fit the {len(heads)} heads {', '.join(heads)}")
    return ReportSection(title, Markup(render(SECTION, paragraphs=paragraphs, heads=heads, rows=rows)))


def render(template: str, **values: object) -> str:
    """The text of a template filled in; it may extend `base` and import `pieces`."""
    return _compiled(template).render(**{"reload": None, "style": Markup(STYLE), **values})


@lru_cache(maxsize=16)
def _compiled(template: str) -> "Template":
    return _environment().from_string(template)


@lru_cache(maxsize=1)
def _environment() -> "Environment":
    from jinja2 import DictLoader, Environment, StrictUndefined

    shared = DictLoader({"base": BASE, "pieces": PIECES})
    environment = Environment(
        loader=shared, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = lambda value: "–" if finite(value) is None else figure(value)
    environment.filters["cell"] = _cell
    environment.filters["seconds"] = seconds
    return environment


def _cell(value: Cell) -> str:
    if isinstance(value, str | Integral):
        return str(value)
    return "–" if finite(value) is None else figure(value)


def seconds(value: float | str | None) -> str:
    """A duration as a person says it: 0.042 s, 3.1 s, 4 min 20 s, 2 h 5 min."""
    value = finite(value)
    if value is None:
        return "–"
    if value < 60:
        return f"{value:.3f} s" if value < 1 else f"{value:.1f} s"
    whole = round(value)
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


BASE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
{% if reload %}<meta http-equiv="refresh" content="{{ reload.seconds }}">
{% endif %}
<title>{{ title }}</title>
<style>{{ style }}</style>
</head>
<body>
<main>
{% block content %}{% endblock %}
<footer>{{ made }}</footer>
</main>
</body>
</html>
"""

PIECES = """
{% macro chart(chart, more="") %}
<figure class="card {{ "full" if chart.width else more }}" style="margin: 0">
<h3>{{ chart.title }}</h3>
{% if chart.legend %}{{ legend(chart.legend) }}{% endif %}
{% if chart.width %}<div class="scroll whole" style="--least: {{ chart.width }}px" tabindex="0">{{ chart.svg }}</div>
<small class="narrow">The picture scrolls sideways.</small>
{% else %}{{ chart.svg }}{% endif %}
{% if chart.scale %}<div class="scale">{{ chart.scale[0] }}<i></i>{{ chart.scale[1] }}</div>{% endif %}
{% if chart.note %}<small>{{ chart.note }}</small>{% endif %}
</figure>
{% endmacro %}

{% macro legend(items) %}
<ul class="legend">
{% for label, key in items.items() %}
<li>{% if key.line %}<svg class="key" viewBox="0 0 26 8" aria-hidden="true"><line x1="0" y1="4" x2="26" y2="4"
 stroke-dasharray="{{ key.dash }}" style="stroke: {{ key.colour }}; opacity: {{ [key.opacity, 0.4]|max }}"/></svg>
{% else %}<i style="background: {{ key.colour }}; opacity: {{ [key.opacity, 0.4]|max }}"></i>{% endif %}{{ label }}</li>
{% endfor %}
</ul>
{% endmacro %}

{% macro table(rows=0, wide=True, more="") %}
<div class="scroll {{ more }}" tabindex="0"><table>{{ caller() }}</table></div>
{% if rows > 15 and not more %}<small>{{ rows }} rows: the table scrolls.</small>{% endif %}
{% if wide %}<small class="narrow">The table scrolls sideways.</small>{% endif %}
{% endmacro %}

{% macro cells(heads, rows) %}
{% call table(rows|length, heads|length > 4) %}
<thead><tr>{% for head in heads %}<th>{{ head }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in rows %}<tr><th>{{ row[0]|cell }}</th>
{% for value in row[1:] %}<td>{{ value|cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody>{% endcall %}
{% endmacro %}

{% macro by_class(rows, tested, full=False, title="By class") %}
<div class="card {{ "full" if full else "wide" }}"><h3>{{ title }}</h3>
{% call table(rows|length, False) %}
<thead><tr><th>class</th><th>precision</th><th>recall</th><th>F1</th><th>n</th></tr></thead>
<tbody>{% for row in rows %}<tr {% if row.mean %}class="changed"{% endif %}><th>{{ row.name }}</th>
<td>{{ row.precision }}</td><td>{{ row.recall }}</td><td>{{ row.f1 }}</td><td>{{ row.support }}</td></tr>
{% endfor %}</tbody>{% endcall %}
<small>scikit-learn's classification_report on {{ tested }} examples; n of them are of the class.</small></div>
{% endmacro %}

{% macro tile(tile) %}
<div class="tile"><span>{{ tile.name }}</span><b>{{ tile.value }}</b><span>{{ tile.more }}</span></div>
{% endmacro %}
"""

SECTION = """
{% import "pieces" as pieces %}
{% for paragraph in paragraphs %}<p>{{ paragraph }}</p>
{% endfor %}
{% if rows %}<div class="card">{{ pieces.cells(heads, rows) }}</div>{% endif %}
"""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1f2733; --soft: #5d6878; --line: #dfe3e9; --grid: #e6e9ee; --axis: #9aa3b0;
  --shade: #00000038;
  --central: #0072b2; --clients: #d55e00; --training: #009e73; --accent: #2a6fb0;
  --good: #1c7c4a; --warn: #a05a00; --bad: #b3261e;
  --s0: #4477aa; --s1: #ee8866; --s2: #44aa77; --s3: #cc6699; --s4: #ddbb44;
  --s5: #66bbdd; --s6: #aa4455; --s7: #777777; --s8: #9977cc; --s9: #996633;
}
@media (prefers-color-scheme: dark) { :root {
  --page: #12161c; --card: #1b2129; --ink: #e4e8ee; --soft: #9aa6b5; --line: #303946; --grid: #2b333e; --axis: #667282;
  --shade: #ffffff40;
  --central: #56b4e9; --clients: #f0934a; --training: #3fcf9f; --accent: #6db3f2;
  --good: #5fcf92; --warn: #f0b45a; --bad: #ff8a80;
  --s0: #6699cc; --s1: #ee8866; --s2: #55bb88; --s3: #dd7fae; --s4: #ddbb44;
  --s5: #77cce8; --s6: #cc6677; --s7: #9a9a9a; --s8: #b39be0; --s9: #bb8855;
} }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.45;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", Arial, sans-serif;
  font-size: 15px; -webkit-text-size-adjust: 100%; }
main { max-width: 84rem; margin: 0 auto; padding: 1.25rem clamp(.75rem, 2.5vw, 2rem) 3rem; }
h1 { font-size: clamp(1.2rem, 1rem + 1.4vw, 1.75rem); line-height: 1.2; margin: .25rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .7rem; }
h3 { font-size: .95rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
p { margin: .4rem 0; max-width: 75ch; }
.soft, small { color: var(--soft); } small { font-size: .85rem; } .card > small { display: block; }
.badge { display: inline-block; border: 1px solid currentColor; border-radius: 1rem; padding: 0 .6rem; font-size: .8rem;
  font-weight: 600; color: var(--warn); }
.badge.finished { color: var(--good); } .badge.failed, .badge.diverged { color: var(--bad); }
  .badge.running { color: var(--accent); }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin-top: .8rem; font-size: .9rem; }
a { color: var(--accent); text-decoration: none; } a:hover { text-decoration: underline; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .7rem; margin: 1.1rem 0 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .6rem .8rem; }
.tile b { display: block; font-size: 1.35rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: .82rem; display: block; overflow-wrap: anywhere; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); gap: .8rem; }
.grid.pair { grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .8rem; min-width: 0; }
.wide { grid-column: span 2; } .full { grid-column: 1 / -1; }
@media (max-width: 53rem) { .wide { grid-column: 1 / -1; } }
svg { display: block; width: 100%; max-width: 34rem; height: auto; margin: 0 auto; }
svg * { stroke-linejoin: round; stroke-linecap: butt; } svg text { fill: var(--ink); }
svg image { image-rendering: pixelated; }
svg.key { flex: none; width: 1.6rem; margin: 0; stroke-width: 2.4; }
.scroll > svg { min-width: var(--least); max-width: 60rem; }
.hover { fill: var(--ink); fill-opacity: 0; } .hover:hover { fill-opacity: .08; }
rect:has(title):hover { stroke: var(--ink); stroke-width: 1; }
.legend { display: flex; flex-wrap: wrap; gap: .15rem .9rem; margin: 0 0 .5rem; padding: 0; list-style: none;
  font-size: .85rem; color: var(--soft); }
.legend li { display: flex; align-items: center; gap: .4rem; overflow-wrap: anywhere; min-width: 0; }
.legend i { flex: none; width: .8rem; height: .8rem; border-radius: .2rem; }
.scale { display: flex; align-items: center; gap: .6rem; font-size: .85rem; color: var(--soft);
  font-variant-numeric: tabular-nums; }
.scale i { flex: 1; max-width: 12rem; height: .55rem; border-radius: .3rem;
  background: linear-gradient(90deg, #440154, #472d7b, #3b528b, #2c728e, #21918c, #28ae80, #5ec962, #addc30, #fde725); }
.scroll { --least: 0px; overflow: auto; max-height: 27rem; background:
  linear-gradient(90deg, var(--card) 40%, transparent) 0 0 / 3rem 100% local,
  linear-gradient(270deg, var(--card) 40%, transparent) 100% 0 / 3rem 100% local,
  linear-gradient(0deg, var(--card) 40%, transparent) 0 100% / 100% 3rem local,
  linear-gradient(90deg, var(--shade), transparent) 0 0 / .8rem 100% scroll,
  linear-gradient(270deg, var(--shade), transparent) 100% 0 / .8rem 100% scroll,
  linear-gradient(0deg, var(--shade), transparent) 0 100% / 100% .8rem scroll;
  background-repeat: no-repeat; }
.whole { max-height: none; } .card > .narrow { display: none; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } thead th { position: sticky; top: 0; background: var(--card); }
th:first-child, td:first-child, .text { text-align: left; }
td.text { white-space: normal; overflow-wrap: anywhere; min-width: 9rem; }
tr.changed td, tr.changed th { font-weight: 650; color: var(--ink); }
tbody th { font-weight: 500; color: var(--ink); position: sticky; left: 0; background: var(--card); }
th.run { white-space: normal; overflow-wrap: anywhere; min-width: 6rem; }
th.part { white-space: normal; min-width: 11rem; } th.part small { display: block; font-weight: 400; }
td.bars { width: 30%; min-width: 4rem; }
.dot { display: inline-block; width: .7rem; height: .7rem; border-radius: .2rem; margin-right: .5rem; }
.bar { display: block; height: .5rem; border-radius: .25rem; background: var(--accent); min-width: 1px; }
details > summary { cursor: pointer; color: var(--accent); padding: .3rem 0; }
@media (max-width: 40rem) { .card > .narrow { display: block; }
  table { font-size: .82rem; } th, td { padding: .28rem .35rem; } th.part { min-width: 8rem; }
  td.bars { min-width: 2.5rem; } }
.notes { border-left: .25rem solid var(--warn); padding-left: .8rem; }
footer { margin-top: 2.5rem; color: var(--soft); font-size: .85rem; }
@media print {
  :root { color-scheme: light; --page: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #ccc; --grid: #ddd; }
  .card, .tile { break-inside: avoid; } .scroll { max-height: none; overflow: visible; } nav { display: none; }
}
"""
