"""Time in a report: metrics against simulated seconds (`--clients`), and whose work was in time (deadlines)."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate

from markupsafe import Markup

from fedkeras.callbacks import Row
from fedkeras.reports.axes import Axes, number_axis
from fedkeras.reports.charts import LINE_STYLES, MOST_COLUMNS, MOST_DOTS, Chart, Key, ranked, values_said
from fedkeras.reports.curves import ROUNDS, series
from fedkeras.reports.headline import SOURCES, choose_headline
from fedkeras.reports.history import LEFT_OUT, SIMULATED_SECONDS, read_rows
from fedkeras.reports.page import ReportSection, render
from fedkeras.reports.run import read_table
from fedkeras.reports.run_folder import RunFolder


def elapsed(rows: Iterable[Row]) -> dict[int, float]:
    """{round: simulated seconds from the run's beginning to that round's end}; empty without a simulated clock."""
    taken = {
        int(row["round"]): float(row[SIMULATED_SECONDS])
        for row in rows
        if (row["phase"], row["client"]) == ("train", "all") and SIMULATED_SECONDS in row
    }
    return dict(zip(sorted(taken), accumulate(taken[number] for number in sorted(taken)), strict=True))


def chart(rows: Sequence[Row], metric: str) -> Chart:
    """One metric of each source (central, clients, training) against simulated seconds."""
    at = elapsed(rows)
    lines = {}
    for source, key in SOURCES.items():
        known = zip(*series((row for row in rows if (row["phase"], row["client"]) == key), metric), strict=True)
        if found := {number: value for number, value in known if number in at}:
            lines[source] = found
    values = [value for found in lines.values() for value in found.values()]
    x = number_axis(at.values(), "simulated seconds", from_zero=True)
    axes = Axes(f"{metric} against simulated seconds", x, number_axis(values))
    for source, found in reversed(lines.items()):
        width, dash = LINE_STYLES[source]
        points = [(at[number], value) for number, value in found.items()]
        axes.line(points, f"var(--{source})", width, dash)
        if len(at) <= MOST_DOTS:
            axes.dots(points, f"var(--{source})", 2.6)
    numbers, before = sorted(at), 0.0
    every = -(-len(numbers) // MOST_COLUMNS)
    for number in numbers[::every]:
        figures = {ROUNDS.labels[source]: found.get(number) for source, found in lines.items()}
        axes.hover((before, at[number]), values_said(f"round {number}, {at[number]:.4g} s", figures))
        before = at[number]
    legend = {ROUNDS.labels[each]: Key(f"var(--{each})", 1.0, True, LINE_STYLES[each][1]) for each in lines}
    return Chart(f"{metric} against simulated seconds", axes.svg(), legend)


def rounds_counted(rows: Iterable[Row], clients: int) -> dict[str, float]:
    """{cid: rounds of training in which its work counted}; empty where single clients have no lines."""
    counted = Counter(str(row["client"]) for row in rows if row["phase"] == "train" and row["client"] != "all")
    return {str(cid): counted[str(cid)] for cid in range(clients)} if counted else {}


def sections(folder: RunFolder) -> Sequence[ReportSection]:
    """The loss, and accuracy or what stands for it, against simulated seconds; and in how many rounds a client counted.

    None of a run that has neither a simulated clock, nor a deadline, nor over-selection.
    """
    rows = read_rows(folder.history_path) if folder.history_path.exists() else []
    at, headline, left_out = elapsed(rows), choose_headline(rows), [row[LEFT_OUT] for row in rows if LEFT_OUT in row]
    pictures = [chart(rows, metric) for metric in dict.fromkeys((headline.metric, "loss"))] if at and headline else []
    if left_out and (counted := rounds_counted(rows, int(read_table(folder.config_path).get("num-partitions", 0)))):
        pictures.append(ranked(counted, "Rounds that a client's work went into"))
    if not pictures:
        return ()
    words = {
        "charts": pictures,
        "total": max(at.values(), default=None),
        "left_out": sum(left_out) if left_out else None,
    }
    return (ReportSection("Time", Markup(render(PAGE, **words)), "curves"),)


PAGE = """\
{% import "pieces" as pieces %}
{% if total is not none %}<p>{{ "%.4g"|format(total) }} simulated seconds in all: a round takes as long as the slowest
of the clients that it waited for, by their steps and bytes (--clients); testing takes no time.</p>{% endif %}
{% if left_out is not none %}<p>{{ left_out }} times a client that was asked was left out of a round, since it was late
or others were faster (--round-deadline, --over-select). What only such clients know is not learned.</p>{% endif %}
<div class="grid pair">{% for chart in charts %}{{ pieces.chart(chart) }}{% endfor %}</div>
"""
