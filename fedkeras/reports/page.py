"""From a template and figures to one HTML page that needs nothing else: no script, no network.

Everything that is not a chart of our own is escaped: names of metrics, clients and classes come from outside. The
templates are Python text, since Flower's app bundle takes no other files.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from fedkeras.reports.headline import finite
from fedkeras.reports.page_comparison import COMPARISON
from fedkeras.reports.page_run import RUN
from fedkeras.reports.page_style import STYLE
from fedkeras.reports.terminal import figure

if TYPE_CHECKING:
    from jinja2 import Environment

BASE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
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
<figure class="card {{ more }}" style="margin: 0">
<h3>{{ chart.title }}</h3>
{% if chart.legend %}{{ legend(chart.legend) }}{% endif %}
{{ chart.svg }}
{% if chart.scale %}<div class="scale">{{ chart.scale[0] }}<i></i>{{ chart.scale[1] }}</div>{% endif %}
{% if chart.note %}<small>{{ chart.note }}</small>{% endif %}
</figure>
{% endmacro %}

{% macro legend(items) %}
<ul class="legend">
{% for label, (colour, opacity) in items.items() %}
<li><i style="background: {{ colour }}; opacity: {{ [opacity, 0.4]|max }}"></i>{{ label }}</li>
{% endfor %}
</ul>
{% endmacro %}

{% macro tile(tile) %}
<div class="tile"><span>{{ tile.name }}</span><b>{{ tile.value }}</b><span>{{ tile.more }}</span></div>
{% endmacro %}
"""


def render(template: str, **values: object) -> str:
    """The page of template `run` or `comparison`."""
    from markupsafe import Markup

    return _environment().get_template(template).render(style=Markup(STYLE), **values)


def render_text(template: str, **values: object) -> str:
    """The page of a template of somebody else's, which may extend `base` and import `pieces`."""
    from markupsafe import Markup

    return _environment().from_string(template).render(style=Markup(STYLE), **values)


@lru_cache(maxsize=1)
def _environment() -> "Environment":
    from jinja2 import DictLoader, Environment, StrictUndefined

    templates: Mapping[str, str] = {"base": BASE, "pieces": PIECES, "run": RUN, "comparison": COMPARISON}
    environment = Environment(
        loader=DictLoader(templates), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = lambda value: "–" if finite(value) is None else figure(value)
    environment.filters["seconds"] = seconds
    return environment


def seconds(value: object) -> str:
    """A duration as a person says it: 0.042 s, 3.1 s, 4 min 20 s, 2 h 5 min."""
    value = finite(value)
    if value is None:
        return "–"
    if value < 60:
        return f"{value:.3f} s" if value < 1 else f"{value:.1f} s"
    whole = round(value)
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
