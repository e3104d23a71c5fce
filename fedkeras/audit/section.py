"""What an audit found, as lines for the terminal and as a section of the run's report."""

import base64
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from fedkeras.audit import record
from fedkeras.audit.finding import Finding, Scores
from fedkeras.audit.picture import edges_of, shares
from fedkeras.reports.axes import Axes, number_axis
from fedkeras.reports.colours import SERIES, css
from fedkeras.reports.page import ReportSection, section
from fedkeras.reports.text_table import text_table

HEADS = ("attack", "about", "claimed", "at least", "at most shown", "estimate", "verdict")
DROPPABLE = ("about", "at most shown", "estimate")
"""Columns that a narrow terminal is spared."""
IMAGES = {".svg": "image/svg+xml", ".png": "image/png"}


def text(findings: Sequence[Finding], width: int | None = None) -> list[str]:
    """A line an attack: what is claimed, and what epsilon is at least."""
    return text_table([HEADS, *(_line(finding) for finding in findings)], 2, width, DROPPABLE)


def of(folder: Path) -> Sequence[ReportSection]:
    """One section; none where nothing was audited. Raises UserError for a damaged audit.json."""
    findings = record.read(folder)
    if not findings:
        return ()
    confidence = findings[0].confidence
    words = [
        f"Attacks on this run, by `fedkeras audit`. 'At least': epsilon is no lower, with {confidence:.0%} confidence; "
        "'at most shown': the bound if the attack had always been right, which no better attack of its kind exceeds."
    ]
    first = section("Audit", words, HEADS, [_line(finding) for finding in findings])
    return (
        ReportSection(first.title, Markup("").join([first.html, *(_of_finding(each, folder) for each in findings)])),
    )


def _line(finding: Finding) -> tuple[str, ...]:
    numbers = finding.claimed, finding.bound, finding.most, finding.estimate
    shown = ["–" if number is None else f"{number:.3g}" for number in numbers]
    return finding.title, finding.unit or "–", *shown, finding.verdict


def _of_finding(finding: Finding, folder: Path) -> Markup:
    figures = [(name, value) for name, value in finding.figures.items()]
    paragraphs = [f"The attacker sees {finding.sees}.", *finding.notes]
    parts = [Markup("<h3>{}</h3>").format(finding.title), section("", paragraphs, ("figure", "value"), figures).html]
    if finding.scores is not None:
        parts.append(Markup('<div class="card">{}</div>').format(histogram(finding.scores)))
    parts += [_image(folder / Path(name).name) for name in finding.pictures]
    for table in finding.tables:
        parts.append(section("", [table.title], table.heads, table.rows).html)
    return Markup("").join(parts)


def _image(path: Path) -> Markup:
    """A picture that the attack has left beside audit.json, within the page itself; nothing where it is gone."""
    kind = IMAGES.get(path.suffix.lower())
    if kind is None or not path.is_file():
        return Markup("")
    content = base64.b64encode(path.read_bytes()).decode()
    return Markup('<div class="card"><img style="max-width: 100%" alt="{}" src="data:{};base64,{}"></div>').format(
        path.stem, kind, content
    )


def histogram(scores: Scores) -> Markup:
    """How often each value of the statistic occurs, for what was trained on and for what was not."""
    edges = edges_of([*scores.included, *scores.left_out])
    both = [shares(values, edges) for values in (scores.included, scores.left_out)]
    top = max(1e-9, *(float(values.max()) for values in both))
    axes = Axes(
        f"{scores.label}: share of examples or canaries",
        number_axis(edges, scores.label),
        number_axis([0.0, top], "share", from_zero=True),
    )
    for values, colour in zip(both, SERIES, strict=False):
        steps = [(x, y) for i, y in enumerate(values) for x in (edges[i], edges[i + 1])]
        axes.area([(steps[0][0], 0.0), *steps, (steps[-1][0], 0.0)], css(colour), 0.35)
        axes.line(steps, css(colour))
    axes.text(edges[-1], top, "trained on", anchor="end", colour=css(SERIES[0]))
    axes.text(edges[-1], 0.9 * top, "left out", anchor="end", colour=css(SERIES[1]))
    return axes.svg()
