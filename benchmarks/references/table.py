"""Ours beside theirs: rows as a table for the terminal, and as one line of JSON."""

import json
from collections.abc import Mapping, Sequence

from benchmarks.references.experiment import Curve, Reference, Setting

HEADER = ("setting", "published", "ours best", "ours last", "rounds", "seeds")


def row(reference: Reference, setting: Setting, curves: Sequence[Curve], rounds: int) -> dict[str, object]:
    """A setting's line; `rounds` are those that were asked for."""
    figures = reference.figures_of(setting, curves)
    done = min(curve.rounds for curve in curves)
    most = max(curve.rounds for curve in curves)
    return {
        "setting": setting.name,
        "published": setting.published,
        "ours_best": figures.best,
        "ours_last": figures.last,
        "rounds": f"{done}" if done == most else f"{done}-{most}",
        "rounds_asked": rounds,
        "seeds": [curve.seed for curve in curves],
        "seconds": [round(curve.seconds, 1) for curve in curves],
        **figures.numbers,
    }


def as_text(rows: Sequence[Mapping[str, object]]) -> str:
    """The table."""
    cells = [HEADER, *([_cell(line, name) for name in HEADER] for line in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(HEADER))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def _cell(line: Mapping[str, object], name: str) -> str:
    if name == "rounds":
        return f"{line['rounds']} of {line['rounds_asked']}"
    value = line[name.replace(" ", "_")]
    return str(len(value)) if name == "seeds" else str(value)


def as_json(name: str, rows: Sequence[Mapping[str, object]], conclusions: Sequence[str]) -> str:
    """The same as one line."""
    return json.dumps({"reference": name, "rows": list(rows), "conclusions": list(conclusions)})
