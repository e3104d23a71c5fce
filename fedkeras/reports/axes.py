"""A chart's axes, drawn straight as an <svg> element: scales, ticks, and marks that say their values on hover.

It takes milliseconds where matplotlib takes a second, so that a page can be drawn again and again beside a run. Colours
are CSS: the page's variables, which follow light and dark. Lengths are points of a drawing as wide as a phone; the page
stretches it. All text is escaped here.
"""

import base64
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup, escape

WIDTH = 400.0
HEIGHT = 250.0
FONT = 10.5
LETTER = 5.9
"""The width of a letter of that size, near enough to leave room for a number or a name."""
INK, GRID, AXIS = "var(--ink)", "var(--grid)", "var(--axis)"
DARK, LIGHT = "#14181d", "#ffffff"
"""Letters on a mark whose colour does not change with the page."""
TOP, RIGHT = 10.0, 12.0

Tick = tuple[float, str]


class Axis(NamedTuple):
    """From where to where, what is written beside it, and the axis' name."""

    low: float
    high: float
    ticks: Sequence[Tick]
    label: str = ""


class Axes:
    """An area between two axes; x and y of all marks are values on them. `what` is read out by a screen reader."""

    def __init__(
        self, what: str, x: Axis, y: Axis, height: float = HEIGHT, width: float = WIDTH,
        grid: str = "xy", upright: bool = False,
    ) -> None:  # fmt: skip
        """`grid`: the axes whose ticks have lines. `upright`: the ticks of x are written from bottom to top."""
        self._what, self._x, self._y, self._width, self._height = what, x, y, width, height
        self._left = 10 + LETTER * max((len(text) for _, text in y.ticks), default=0) + 16 * bool(y.label)
        deep = LETTER * max((len(text) for _, text in x.ticks), default=0) if upright else FONT
        self._bottom = height - 8 - deep - 16 * bool(x.label)
        self._marks: list[str] = []
        self._frame(grid, upright)

    @property
    def low_x(self) -> float:
        """Where x begins."""
        return self._x.low

    @property
    def high_x(self) -> float:
        """Where x ends."""
        return self._x.high

    def x(self, value: float) -> float:
        """Where a value is, in points from the left."""
        span = (self._x.high - self._x.low) or 1.0
        return self._left + (value - self._x.low) / span * (self._width - RIGHT - self._left)

    def y(self, value: float) -> float:
        """Where a value is, in points from the top. An axis may count downwards."""
        span = (self._y.high - self._y.low) or 1.0
        return self._bottom - (value - self._y.low) / span * (self._bottom - TOP)

    def line(
        self,
        points: Iterable[tuple[float, float]],
        colour: str,
        width: float = 1.8,
        dash: str = "",
        opacity: float = 1.0,
    ) -> None:
        """A line through those of the points that are finite, with a gap where one is not."""
        parts: list[list[str]] = [[]]
        for x, y in points:
            if math.isfinite(x) and math.isfinite(y):
                parts[-1].append(f"{self.x(x):.1f},{self.y(y):.1f}")
            elif parts[-1]:
                parts.append([])
        style = f"fill:none;stroke:{colour};stroke-width:{width:g};opacity:{opacity:g}"
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        for part in filter(None, parts):
            self._marks.append(f'<polyline points="{" ".join(part)}"{dashed} style="{style}"/>')

    def dots(
        self, points: Iterable[tuple[float, float]], colour: str, radius: float = 2.2, opacity: float = 1.0
    ) -> None:
        """A dot for each of the points that is finite."""
        for x, y in points:
            if math.isfinite(x) and math.isfinite(y):
                where = f'cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="{radius:g}"'
                self._marks.append(f'<circle {where} style="fill:{colour};opacity:{opacity:g}"/>')

    def area(self, outline: Iterable[tuple[float, float]], colour: str, opacity: float = 1.0) -> None:
        """What an outline encloses."""
        points = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in outline)
        self._marks.append(f'<polygon points="{points}" style="fill:{colour};opacity:{opacity:g}"/>')

    def box(
        self, x: tuple[float, float], y: tuple[float, float], colour: str, opacity: float = 1.0, title: str = ""
    ) -> None:
        """A rectangle."""
        self._box(x, y, f"fill:{colour};fill-opacity:{opacity:.3g}", title)

    def hover(self, x: tuple[float, float], title: str, y: tuple[float, float] | None = None) -> None:
        """A place, by itself not seen, that says `title` to who points at it; as high as the area unless y is given."""
        self._box(x, y or (self._y.low, self._y.high), "", title, 'class="hover" ')

    def text(
        self, x: float, y: float, text: str, anchor: str = "middle", colour: str = INK, size: float = FONT - 1,
        shift: float = 0.0, opacity: float = 1.0,
    ) -> None:  # fmt: skip
        """Text at a value, `shift` points to the right of it; anchor: start, middle or end."""
        where = f'x="{self.x(x) + shift:.1f}" y="{self.y(y) + size * 0.35:.1f}" text-anchor="{anchor}"'
        style = f"fill:{colour};font-size:{size:g}px;opacity:{opacity:g}"
        self._marks.append(f'<text {where} style="{style}">{escape(text)}</text>')

    def image(self, x: tuple[float, float], y: tuple[float, float], rgba: np.ndarray) -> None:
        """An image of (rows, columns, 4) whole numbers up to 255, stretched over the place, its pixels as they are."""
        left, right, top, bottom = self._corners(x, y)
        where = f'x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}"'
        self._marks.append(f'<image {where} preserveAspectRatio="none" href="{_png(rgba)}"/>')

    def svg(self) -> Markup:
        """The drawing."""
        head = f'<svg viewBox="0 0 {self._width:g} {self._height:g}" role="img" aria-label="{escape(self._what)}">'
        return Markup("\n".join([head, *self._marks, "</svg>"]))

    def _corners(self, x: tuple[float, float], y: tuple[float, float]) -> tuple[float, float, float, float]:
        (left, right), (top, bottom) = sorted(map(self.x, x)), sorted(map(self.y, y))
        return left, right, top, bottom

    def _box(self, x: tuple[float, float], y: tuple[float, float], style: str, title: str, more: str = "") -> None:
        left, right, top, bottom = self._corners(x, y)
        where = (
            f'x="{left:.1f}" y="{top:.1f}" width="{max(0.0, right - left):.1f}" height="{max(0.0, bottom - top):.1f}"'
        )
        styled = f' style="{style}"' if style else ""
        inside = f"><title>{escape(title)}</title></rect>" if title else "/>"
        self._marks.append(f"<rect {more}{where}{styled}{inside}")

    def _frame(self, grid: str, upright: bool) -> None:
        for value, text in self._y.ticks:
            if "y" in grid:
                self._rule(self._left, self.y(value), self._width - RIGHT, self.y(value), GRID)
            self._tick(self._left - 6, self.y(value) + FONT * 0.35, text, "end")
        for value, text in self._x.ticks:
            if "x" in grid:
                self._rule(self.x(value), TOP, self.x(value), self._bottom, GRID)
            if upright:
                x, y = self.x(value) + FONT * 0.35, self._bottom + 6
                self._tick(x, y, text, "end", f' transform="rotate(-90 {x:.1f} {y:.1f})"')
            else:
                self._tick(self.x(value), self._bottom + 6 + FONT, text, "middle")
        self._rule(self._left, self._bottom, self._width - RIGHT, self._bottom, AXIS)
        if "y" in grid or self._y.label == "":
            self._rule(self._left, TOP, self._left, self._bottom, AXIS)
        if self._x.label:
            self._tick((self._left + self._width - RIGHT) / 2, self._height - 4, self._x.label, "middle")
        if self._y.label:
            x, y = FONT, (TOP + self._bottom) / 2
            self._tick(x, y, self._y.label, "middle", f' transform="rotate(-90 {x:.1f} {y:.1f})"')

    def _rule(self, x: float, y: float, x2: float, y2: float, colour: str) -> None:
        where = f'x1="{x:.1f}" y1="{y:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        self._marks.append(f'<line {where} style="stroke:{colour};stroke-width:0.8"/>')

    def _tick(self, x: float, y: float, text: str, anchor: str, more: str = "") -> None:
        where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}'
        self._marks.append(f'<text {where} style="font-size:{FONT:g}px">{escape(text)}</text>')


def number_axis(values: Iterable[float], label: str = "", from_zero: bool = False, most: int = 6) -> Axis:
    """An axis for these values, those that are finite, with some air around them."""
    known = [float(value) for value in values if math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if from_zero:
        low, high = min(0.0, low), max(0.0, high)
    air = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    low, high = (low if from_zero and low == 0 else low - air), high + air
    return Axis(low, high, ticks(low, high, most), label)


def round_axis(first: int, last: int, label: str = "round", most: int = 8) -> Axis:
    """Rounds, or other steps: whole numbers, with half a one on both sides."""
    step = max(1, round(_step(last - first, most)))
    shown = range(-(-first // step) * step, last + 1, step)
    return Axis(first - 0.5, last + 0.5, [(number, str(number)) for number in shown], label)


def ticks(low: float, high: float, most: int) -> list[Tick]:
    """At most so many round numbers from low to high."""
    step = _step(high - low, most)
    if not step:
        return [(low, f"{low:g}")]
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    numbers = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    wide = max(abs(low), abs(high)) >= 1e5
    return [(number * step, f"{number * step:.3g}" if wide else f"{number * step:.{places}f}") for number in numbers]


def _step(span: float, most: int) -> float:
    """1, 2 or 5 times a power of ten; 0 where there is no span."""
    if span <= 0:
        return 0.0
    unit = 10.0 ** math.floor(math.log10(span / most))
    return next(step for step in (unit, 2 * unit, 5 * unit, 10 * unit, 20 * unit) if step * most >= span * (1 - 1e-9))


def _png(rgba: np.ndarray) -> str:
    """A PNG file as a data URI: the shortest that the format allows (8 bits, no filter)."""
    rows, columns = rgba.shape[:2]

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    lines = np.zeros((rows, 1 + 4 * columns), np.uint8)
    lines[:, 1:] = rgba.astype(np.uint8).reshape(rows, -1)
    header = struct.pack(">IIBBBBB", columns, rows, 8, 6, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines.tobytes())) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + body).decode()
