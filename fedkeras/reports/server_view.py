"""What the server saw: one line for each thing that comes of a client's data, whose it is, and how it is protected.

A way to train says what reaches the server by itself (`Workflow.server_saw`), and each mod says what it makes of that
(`Mod.server_saw`), the innermost first, as an answer leaves a client.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from fedkeras.reports.page import ReportSection, render

EACH = "each client's"
SUM = "the sum over clients alone"
NOBODY = "nobody's"
"""Whose it is that the server saw."""
OPEN = "not protected"
UNSAID = "it does not say, so take it as not protected"

UPDATE = "update"
FIGURES = "figures"
COUNTS = "counts"
EXAMPLES = "examples"
STATISTICS = "statistics"
CLASS_COUNTS = "class counts"
LABELS = "labels"
PRESENCE = "presence"
"""Names of lines that several ways to train have, so that a mod finds the one that it changes."""


@dataclass(frozen=True)
class Seen:
    """A line: what it is, whose of it the server saw (EACH, SUM, NOBODY or other words), and how it was protected."""

    what: str
    whose: str = EACH
    protection: str = OPEN


Sight = Mapping[str, Seen]
"""All lines by their names (UPDATE, ...), in the order in which they are shown."""


def server_view(sight: Sight) -> ReportSection:
    """The section of these lines."""
    return ReportSection("What the server saw", Markup(render(LINES, lines=list(sight.values()))))


LINES = """
{% import "pieces" as pieces %}
<p>Of what clients hold, by this run's settings: what the server's process and whoever runs it could see, kept or not.
Who sees the models alone sees less.</p>
<div class="card">{% call pieces.table(lines|length, False) %}
<thead><tr><th>what</th><th class="text">whose</th><th class="text">how it is protected</th></tr></thead>
<tbody>{% for line in lines %}<tr><td class="text">{{ line.what }}</td><td class="text">{{ line.whose }}</td>
<td class="text">{{ line.protection }}</td></tr>{% endfor %}</tbody>{% endcall %}</div>
"""
