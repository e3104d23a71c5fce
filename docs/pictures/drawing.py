"""Boxes, arrows and words as an SVG file that reads on a light and on a dark page, from a phone's width on.

The picture brings its own ground, so that it reads too where a page's colours and the reader's settings disagree.
"""

from pathlib import Path
from xml.sax.saxutils import escape

WIDTH = 560
"""Units, which are pixels where a page is wide enough; at 400 pixels the smallest letters have 9."""

STYLE = """
svg{font-family:system-ui,sans-serif;font-size:14px}
.ground{fill:#fff;stroke:#d0d7de}.ink{fill:#1f2328}.soft{fill:#59636e}
.server{fill:#dbeafe;stroke:#2563a8}.client{fill:#ffe8cc;stroke:#b45309}.carrier{fill:#e6e9ed;stroke:#59636e}
.absent{fill:none;stroke:#8b949e;stroke-dasharray:4 3}
.line{stroke:#1f2328;stroke-width:1.5;fill:none}.dashed{stroke-dasharray:5 4}.lane{stroke:#8b949e;stroke-dasharray:2 4}
.tip{fill:#1f2328}.title{font-weight:600}.code{font-family:ui-monospace,monospace;font-size:13px}
@media (prefers-color-scheme:dark){
.ground{fill:#0d1117;stroke:#3d444d}.ink,.tip{fill:#e6edf3}.soft{fill:#9da7b3}
.server{fill:#12294a;stroke:#6cb0ff}.client{fill:#43290a;stroke:#f0a24a}.carrier{fill:#262c36;stroke:#9da7b3}
.line{stroke:#e6edf3}}
"""


class Drawing:
    """A picture of WIDTH by `height`; `what` is read out by a screen reader."""

    def __init__(self, height: int, what: str) -> None:
        self.height, self.what = height, what
        self._parts: list[str] = []

    def text(self, x: float, y: float, words: str, style: str = "ink", anchor: str = "middle") -> None:
        """One line; `y` is its baseline."""
        self._parts.append(f'<text class="{style}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>')

    def box(self, x: float, y: float, width: float, height: float, kind: str, title: str = "", *lines: str) -> None:
        """A box with a title and lines below it, in its middle; a line in `ticks` is code."""
        place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
        self._parts.append(f'<rect class="{kind}" {place} rx="6" stroke-width="1.5"/>')
        words = ([title] if title else []) + list(lines)
        top = y + height / 2 - 9 * (len(words) - 1) + 5
        for number, line in enumerate(words):
            style = "ink title" if title and not number else "ink"
            if line.startswith("`"):
                style, line = style + " code", line.strip("`")
            self.text(x + width / 2, top + 18 * number, line, style)

    def circle(self, x: float, y: float, radius: float, kind: str, words: str) -> None:
        """A circle with a word in it."""
        self._parts.append(f'<circle class="{kind}" cx="{x:g}" cy="{y:g}" r="{radius:g}" stroke-width="1.5"/>')
        self.text(x, y + 5, words)

    def line(self, x: float, y: float, to_x: float, to_y: float, style: str = "lane") -> None:
        """A line without a tip."""
        self._parts.append(f'<path class="{style}" d="M{x:g} {y:g}L{to_x:g} {to_y:g}"/>')

    def arrow(self, x: float, y: float, to_x: float, to_y: float, words: str = "", dashed: bool = False) -> None:
        """An arrow, with words above its middle; dashed is what comes back."""
        style = "line dashed" if dashed else "line"
        self._parts.append(f'<path class="{style}" d="M{x:g} {y:g}L{to_x:g} {to_y:g}" marker-end="url(#tip)"/>')
        if words:
            self.text((x + to_x) / 2, (y + to_y) / 2 - 6, words.strip("`"), "ink code" if words[0] == "`" else "ink")

    def curve(self, path: str) -> None:
        """An arrow along an SVG path."""
        self._parts.append(f'<path class="line" d="{path}" marker-end="url(#tip)"/>')

    def write(self, path: Path) -> None:
        """Write the file."""
        tip = (
            '<marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
            '<path class="tip" d="M0 0L10 5L0 10z"/></marker>'
        )
        head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{self.height}" '
        head += f'viewBox="0 0 {WIDTH} {self.height}" role="img">\n<title>{escape(self.what)}</title>'
        ground = f'<rect class="ground" x=".5" y=".5" width="{WIDTH - 1}" height="{self.height - 1}" rx="8"/>'
        body = "\n".join([head, f"<style>{STYLE}</style><defs>{tip}</defs>", ground, *self._parts, "</svg>", ""])
        path.write_text(body, encoding="utf-8")
