"""Matplotlib's figures as SVG that stands in a page: its letters are the page's, its colours follow light and dark."""

import io
import re
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from fedkeras.reports import curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 400
"""A chart's width in points: about a phone's, so that its letters have the page's size there."""

SERIES = ("#4477aa", "#ee8866", "#44aa77", "#cc6699", "#ddbb44", "#66bbdd", "#aa4455", "#777777", "#9977cc", "#996633")
"""Paul Tol's colours, changed where ten at a time could not be distinguished."""

VARIABLES = {
    curves.INK: "--ink",
    curves.GRID: "--grid",
    "#999999": "--axis",
    curves.STYLES["central"][1]["color"].lower(): "--central",
    curves.STYLES["clients"][1]["color"].lower(): "--clients",
    curves.STYLES["training"][1]["color"].lower(): "--training",
    **{colour: f"--s{place}" for place, colour in enumerate(SERIES)},
}
"""Colour as drawn -> the page's variable that takes its place."""

RC = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fedkeras",
    "text.parse_math": False,  # a class may have a name with dollars in it
    "axes.unicode_minus": False,
    "font.size": 10.5,
    "text.color": curves.INK,
    "axes.labelcolor": curves.INK,
    "axes.edgecolor": "#999999",
    "xtick.color": curves.INK,
    "ytick.color": curves.INK,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
}


def draw(paint: Callable[["Axes"], None], what: str, height: float = 250, width: float = WIDTH) -> Markup:
    """Let `paint` draw into new axes, and return the figure as an <svg> element; `what` is read out by a screen reader.

    Sizes are in points; the element takes the width that the page gives it.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(RC):
        figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
        paint(figure.subplots())
        out = io.StringIO()
        # Not transparent, it would be painted over the page; dates and the like are no part of a picture
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    return inline(out.getvalue(), what)


def inline(svg: str, what: str) -> Markup:
    """Take out of matplotlib's SVG file what is of no use, or of harm, inside a page."""
    body = svg[svg.index("<svg") :]
    # A style element inside an SVG is the whole page's: this one stands in the page's own
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.DOTALL)
    body = _own_ids(body, what)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    body = re.sub(r"#[0-9a-f]{6}\b", lambda match: _variable(match[0]), body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    box = re.search(r'viewBox="[^"]*"', body)[0]
    head = f'<svg {box} role="img" aria-label="{escape(what)}">'
    return Markup(re.sub(r"<svg[^>]*>", lambda _: head, body, count=1))


def _own_ids(body: str, what: str) -> str:
    """Give the names that the picture refers to a start of its own, and remove all others: a page has many figure_1."""
    start = f"c{zlib.crc32((what + body).encode()):08x}-"
    used = set(re.findall(r'(?:url\(|href=")#([\w.-]+)', body))
    body = re.sub(r' id="([^"]*)"', lambda match: f' id="{start}{match[1]}"' if match[1] in used else "", body)
    return re.sub(r'(url\(|href=")#(?=[\w.-]+)', lambda match: f"{match[1]}#{start}", body)


def css(colour: str) -> str:
    """A drawn colour as CSS."""
    return _variable(colour.lower())


def _variable(colour: str) -> str:
    return f"var({VARIABLES[colour]})" if colour in VARIABLES else colour
