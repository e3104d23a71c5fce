"""What the report of split learning shows: where the model was cut, what travels through each cut, and how much."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from fedkeras.atomic import replace_file
from fedkeras.errors import UserError
from fedkeras.reports import ReportSection, RunFolder, read_rows
from fedkeras.reports.history import BYTES
from fedkeras.reports.page import render

if TYPE_CHECKING:
    from fedkeras.models.cutting import Parts

FILE = "split.json"
PARTS = ("head", "body", "tail")
ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
PHASES = {"train": "training", "evaluate": "evaluation"}
MOST_LETTERS = 25


@dataclass(frozen=True)
class PartOfModel:
    """Head, body or tail: its layers in order, how many numbers its weights are, and the shapes of an example."""

    layers: Sequence[str]
    weights: int
    input: Sequence[int | None]
    output: Sequence[int | None]


@dataclass(frozen=True)
class CutModel:
    """What split.json holds."""

    dtype: str
    """What activations and gradients are on the wire."""
    batch_size: int
    parts: Mapping[str, PartOfModel]


def cut_model(parts: "Parts", dtype: str, batch_size: int) -> CutModel:
    """The parts of a model that is cut, as a report shows them."""
    found = {}
    for name in PARTS:
        model = parts.models[name]
        layers = [layer.name for layer in model.layers if type(layer).__name__ != "InputLayer"]
        count = sum(math.prod(weight.shape) for weight in model.weights)
        found[name] = PartOfModel(layers, count, [*model.inputs[0].shape[1:]], [*model.outputs[0].shape[1:]])
    return CutModel(dtype, batch_size, found)


def write(folder: RunFolder, model: CutModel) -> None:
    """Write split.json in one step. Raises UserError if the disk refuses."""
    replace_file(folder.path / FILE, f"{json.dumps(asdict(model), indent=2)}\n".encode())


def sections(folder: RunFolder) -> list[ReportSection]:
    """The cut as a picture, and the bytes by round and direction; none where the run has not noted where it was cut."""
    path = folder.path / FILE
    try:
        table = json.loads(path.read_text())
        parts = {name: PartOfModel(**table["parts"][name]) for name in PARTS}
        model = CutModel(str(table["dtype"]), int(table["batch_size"]), parts)
        picture = draw(model)
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: {error}") from error
    rows = _by_round(read_rows(folder.history_path)) if folder.history_path.exists() else []
    heads = ["round", *(f"{phase}: {way}" for phase in PHASES.values() for way in ("up", "down")), "all"]
    html = render(CUT, picture=picture, heads=heads, rows=rows)
    return [ReportSection("Where the model is cut", Markup(html), "curves")]


def _by_round(rows: Sequence[Mapping[str, float | str]]) -> list[list[str]]:
    """A line a round: what all clients sent and were sent in each phase, and the sum."""
    found: dict[int, dict[tuple[str, str], int]] = {}
    for row in rows:
        if row["client"] == "all":
            of_round = found.setdefault(int(row["round"]), {})
            of_round |= {(str(row["phase"]), column): int(row[column]) for column in BYTES if column in row}
    lines = []
    for number, counts in sorted(found.items()):
        cells = [counts.get((phase, column)) for phase in PHASES for column in BYTES]
        lines.append([str(number), *map(size, cells), size(sum(counts.values()))])
    return lines


def size(count: float | None) -> str:
    """A number of bytes as a person says it."""
    if count is None:
        return "–"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("GB is the last unit")


def draw(model: CutModel) -> Markup:
    """An <svg> element: head and tail at each client, the body at the server, and between them what travels."""
    head, body, tail = (model.parts[name] for name in PARTS)
    marks = [
        _frame(4, 4, 392, 92, "each client: examples and labels stay here"),
        *_box(14, 26, 178, "head", head),
        *_box(208, 26, 178, "tail", tail),
        *_arrow(34, 100, 180, "var(--central)"),
        *_arrow(172, 180, 100, "var(--clients)", "7 3"),
        *_travels(103, "activations", model, head.output),
        *_arrow(228, 180, 100, "var(--central)"),
        *_arrow(366, 100, 180, "var(--clients)", "7 3"),
        *_travels(297, "the body's output", model, body.output),
        _frame(4, 184, 392, 92, "the server"),
        *_box(14, 206, 372, "body", body),
    ]
    what = "head and tail of the model at each client, its body at the server, and what travels between them"
    return Markup("\n".join([f'<svg viewBox="0 0 400 280" role="img" aria-label="{what}">', *marks, "</svg>"]))


def _frame(x: float, y: float, width: float, height: float, title: str) -> str:
    style = "fill:none;stroke:var(--axis);stroke-width:1"
    place = f'x="{x}" y="{y}" width="{width}" height="{height}" rx="6"'
    return f'<rect {place} stroke-dasharray="3 3" style="{style}"/>' + _text(x + 10, y + 14, title, "start")


def _box(x: float, y: float, width: float, name: str, part: PartOfModel) -> list[str]:
    layers = part.layers[0] if len(part.layers) == 1 else f"{part.layers[0]} … {part.layers[-1]}"
    shapes = f"{shape_of(part.input)} → {shape_of(part.output)}"
    place = f'x="{x}" y="{y}" width="{width}" height="62" rx="5"'
    middle = x + width / 2
    said = f"{name}: {', '.join(part.layers)}; {part.weights:,} weights; an example: {shapes}"
    return [
        f'<rect {place} style="fill:var(--s0);fill-opacity:.16;stroke:var(--s0)"><title>{escape(said)}</title></rect>',
        _text(middle, y + 14, name, weight=650),
        _text(middle, y + 28, layers if len(layers) <= MOST_LETTERS or width > 200 else f"{len(part.layers)} layers"),
        _text(middle, y + 41, shapes),
        _text(middle, y + 54, f"{part.weights:,} weights"),
    ]


def _arrow(x: float, start: float, end: float, colour: str, dash: str = "") -> list[str]:
    tip = 8 if end > start else -8
    line = f'<line x1="{x}" y1="{start}" x2="{x}" y2="{end - tip}" stroke-dasharray="{dash}"'
    return [
        f'{line} style="stroke:{colour};stroke-width:2"/>',
        f'<polygon points="{x - 5},{end - tip} {x + 5},{end - tip} {x},{end}" style="fill:{colour}"/>',
    ]


def _travels(x: float, what: str, model: CutModel, shape: Sequence[int | None]) -> list[str]:
    """Between a pair of arrows: what goes one way, and comes back as its gradient."""
    known = None not in shape
    of_batch = model.batch_size * math.prod(shape) * ITEM_BYTES[model.dtype] if known else None
    lines = [what, shape_of([model.batch_size, *shape]), f"{model.dtype}, {size(of_batch)} a batch"]
    texts = [_text(x, 116 + 14 * number, line) for number, line in enumerate(lines)]
    return [*texts, _text(x, 170, "and back: their gradient")]


def _text(x: float, y: float, text: str, anchor: str = "middle", weight: int = 400) -> str:
    style = f"font-size:10px;font-weight:{weight}"
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" style="{style}">{escape(text)}</text>'


def shape_of(shape: Sequence[int | None]) -> str:
    """28 × 28 × 1; a question mark where it is not fixed."""
    return " × ".join("?" if number is None else str(number) for number in shape) or "a number"


CUT = """
{% import "pieces" as pieces %}
<div class="grid"><figure class="card" style="margin: 0"><h3>What travels for a batch</h3>
{{ picture }}
<small>Whole arrows: on the way to the loss; dashed ones: gradients, on the way back.</small></figure>
<div class="card wide"><h3>Bytes by round</h3>
{% if rows %}{{ pieces.cells(heads, rows) }}
<small>All clients' arrays together, as they stand in messages; up is from the clients to the server. Head and tail
travel once a round in each direction, activations and gradients with every batch. In evaluation no gradients travel.
</small>
{% else %}<p class="soft">No round is finished yet.</p>{% endif %}</div></div>
"""
