"""What an asynchronous run tells of its updates: updates.csv, a line for each, and what is made of it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

from markupsafe import Markup

from fedkeras.callbacks import Row
from fedkeras.reports import ReportSection, RunFolder
from fedkeras.reports.axes import Axes, number_axis, round_axis
from fedkeras.reports.charts import Chart, ranked
from fedkeras.reports.history import RoundTable
from fedkeras.reports.page import render
from fedkeras.reports.run_folder import JsonTable
from fedkeras.workflows.fedbuff.buffer import Update

FILE = "updates.csv"
UPDATES_TABLE = RoundTable(
    {"round": int, "client": str, "training": int, "begun_from": int, "staleness": int, "weight": float}
)
"""updates.csv: whose update went into which version, which training of its client it was, the version that it began
from, and s(tau)."""


def path_of(folder: RunFolder) -> Path:
    """Where updates.csv is."""
    return folder.path / FILE


def line_of(version: int, update: Update) -> Row:
    """An update's line."""
    return {
        "round": version,
        "client": str(update.cid),
        "training": update.number,
        "begun_from": update.version,
        "staleness": update.staleness,
        "weight": update.weight,
    }


def figures(lines: Sequence[Row]) -> JsonTable:
    """Of all updates, for summary.json."""
    if not lines:
        return {"updates": 0}
    staleness = [int(line["staleness"]) for line in lines]
    of_client = Counter(str(line["client"]) for line in lines)
    return {
        "updates": len(lines),
        "mean_staleness": fmean(staleness),
        "most_staleness": max(staleness),
        "updates_of_clients": dict(sorted(of_client.items(), key=lambda item: int(item[0]))),
    }


def sections(folder: RunFolder) -> Sequence[ReportSection]:
    """How stale updates were, and how many each client sent; none before the first version."""
    lines = UPDATES_TABLE.read(path_of(folder))
    if not lines:
        return ()
    about = figures(lines)
    counts = Counter(str(line["client"]) for line in lines)
    pictures = [histogram(int(line["staleness"]) for line in lines), ranked(counts, "Updates of each client")]
    html = render(
        PAGE,
        charts=pictures,
        updates=about["updates"],
        mean=about["mean_staleness"],
        most=about["most_staleness"],
        rows=_by_client(lines) if len(counts) <= MOST_CLIENTS else [],
    )
    return (ReportSection("Asynchronous updates", Markup(html), "curves"),)


MOST_CLIENTS = 100
"""Clients up to which each has a line."""


def histogram(staleness: Iterable[int]) -> Chart:
    """How many updates were how many versions old."""
    counts = Counter(staleness)
    most = max(counts)
    x = round_axis(0, most, "versions made meanwhile (staleness)")
    x = x._replace(low=-0.5, high=most + 0.5)
    axes = Axes("updates by staleness", x, number_axis(counts.values(), "updates", from_zero=True), grid="y")
    for tau, count in sorted(counts.items()):
        axes.box((tau - 0.4, tau + 0.4), (0, count), "var(--central)", title=f"staleness {tau}: {count} updates")
    return Chart("Updates by staleness", axes.svg())


def _by_client(lines: Sequence[Row]) -> list[tuple[str, int, float, int]]:
    of_client: dict[str, list[int]] = defaultdict(list)
    for line in lines:
        of_client[str(line["client"])].append(int(line["staleness"]))
    return [
        (cid, len(taus), fmean(taus), max(taus))
        for cid, taus in sorted(of_client.items(), key=lambda each: int(each[0]))
    ]


PAGE = """\
{% import "pieces" as pieces %}
<p>{{ updates }} updates; on the mean {{ "%.3g"|format(mean) }} versions were made while one was under way, at most
{{ most }}. An update counts by its client's examples and by 1/(1+staleness)^a (--staleness-exponent).</p>
<div class="grid pair">{% for chart in charts %}{{ pieces.chart(chart) }}{% endfor %}</div>
{% if rows %}<details><summary>Each client</summary><table>
<tr><th>client</th><th>updates</th><th>mean staleness</th><th>most</th></tr>
{% for cid, count, mean, most in rows %}<tr><td>{{ cid }}</td><td>{{ count }}</td><td>{{ "%.3g"|format(mean) }}</td>
<td>{{ most }}</td></tr>
{% endfor %}</table></details>{% endif %}
"""
