"""What the report of a run that collects says of each model: its figures, its epochs and its folds.

All of it is read from the run's folder: `clients/<name>/` as a client has delivered it, and the server's `test.csv`. A
table that a client delivered is its own word: what cannot be read of it is said, and the rest stands.
"""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from fedkeras import csv_text
from fedkeras.federation.messages import NUM_EXAMPLES
from fedkeras.reports import ReportSection, RunFolder, charts
from fedkeras.reports.axes import INK, Axes, Axis, number_axis
from fedkeras.reports.charts import Chart
from fedkeras.reports.curves import CurveWords
from fedkeras.reports.headline import figure
from fedkeras.reports.page import render

MOST_MODELS = 500
MOST_BYTES = 1 << 20
"""What is read of a table: thousands of epochs."""
WORDS = CurveWords("epoch", {"training": "mean over the models"}, {"training": "mean"})
EPOCHS = {
    "val_accuracy": "accuracy on held-back rows", "accuracy": "accuracy in training",
    "val_loss": "loss on held-back rows", "loss": "loss in training",
}  # fmt: skip
"""Columns of epochs.csv that are drawn -> what they are."""
MEASURES = ("accuracy", "loss")

Line = Mapping[str, float]


@dataclass(frozen=True)
class ModelReport:
    """A collected model, called as its folder is: the figures of result.json, and its tables line by line."""

    name: str
    figures: Line
    epochs: Sequence[Line] = ()
    folds: Sequence[Line] = ()
    tested: Line = field(default_factory=dict)
    """On the server's test set."""


def sections(folder: RunFolder) -> list[ReportSection]:
    """The section of the collected models, in place of those that are about rounds; none before the first has come."""
    tested, faults = _tested(folder.path / "test.csv"), []
    models = [_read(path, tested, faults) for path in _folders(folder.path / "clients")[:MOST_MODELS]]
    if not models:
        return []
    meaning = _summary(folder).get("clients_figures", "")
    html = render(
        COLLECTED,
        pictures=[*_epoch_charts(models), *_fold_charts(models)],
        heads=["model", *(label for label, _ in _columns(models))],
        rows=[*_rows(models), *_aggregate(models, tested)],
        folds=_fold_rows(models),
        notes=[meaning] if meaning else [],
        faults=faults,
    )
    files = {"labels": folder.partitions_path, "test": folder.predictions_path}
    left_out = ("curves", "clients", "timing", *(name for name, path in files.items() if not path.exists()))
    return [ReportSection("Collected models", Markup(html), "start", left_out)]


def _folders(clients: Path) -> list[Path]:
    """0, 0-2, 0-10, 1: the order of cids, and for each of them that of arrival."""
    found = [path for path in clients.glob("*") if path.name.replace("-", "").isdecimal()]
    return sorted(found, key=lambda path: [int(number) for number in path.name.split("-") if number])


def _read(path: Path, tested: Mapping[str, Line], faults: list[str]) -> ModelReport:
    try:
        figures = _numbers(json.loads((path / "result.json").read_text()))
    except (OSError, ValueError, AttributeError):
        figures = {}
        faults.append(f"client {path.name}: result.json cannot be read")
    tables = [_table(path / name, f"client {path.name}", faults) for name in ("epochs.csv", "folds.csv")]
    return ModelReport(path.name, figures, *tables, tested.get(path.name, {}))


def _table(path: Path, whose: str, faults: list[str]) -> list[Line]:
    """The lines whose first cell is a number; folds.csv ends with mean and standard deviation, which are made again."""
    if not path.exists():
        return []
    try:
        text = path.read_bytes()[:MOST_BYTES].decode()
        return [_numbers(line) for line in _lines(text) if _number(next(iter(line.values()), "")) is not None]
    except (OSError, ValueError, csv.Error):
        faults.append(f"{whose}: {path.name} cannot be read")
        return []


def _lines(text: str) -> Iterator[dict[str, str]]:
    head, *lines = text.split("\n")
    names = csv_text.cells_of(head)
    for line in lines[:-1]:  # the last is empty, or cut off
        yield dict(zip(names, csv_text.cells_of(line), strict=False))


def _tested(path: Path) -> dict[str, Line]:
    """test.csv: {model: figures}; empty where nothing was tested."""
    try:
        return {line["model"]: _numbers(line) for line in _lines(path.read_text())}
    except (OSError, ValueError, KeyError, csv.Error):
        return {}


def _summary(folder: RunFolder) -> Mapping[str, str]:
    try:
        found = json.loads(folder.summary_path.read_text())
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def _numbers(table: Mapping[str, object]) -> Line:
    found = {str(name): _number(value) for name, value in table.items()}
    return {name: value for name, value in found.items() if value is not None}


def _number(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, str | int | float) else None
    except ValueError:
        return None


def _columns(models: Sequence[ModelReport]) -> list[tuple[str, str]]:
    """(what stands above, name of the figure), accuracies first; those that a model has."""
    prefixes = {"test": "of_test ", "cv": "cv-", "val": "val-", "training": ""}
    wanted = [
        (f"{where} {measure}", f"{prefix}{measure}") for measure in MEASURES for where, prefix in prefixes.items()
    ]
    return [(label, key) for label, key in wanted if any(_figure(model, key) is not None for model in models)] + [
        ("examples", NUM_EXAMPLES), ("epochs in all", "of_epochs"), ("seconds", "seconds"),
    ]  # fmt: skip


def _figure(model: ModelReport, key: str) -> float | int | None:
    if key.startswith("of_test "):
        return model.tested.get(key.removeprefix("of_test "))
    if key == "of_epochs":
        return len(model.epochs) or None  # all folds' together
    value = model.figures.get(key)
    return int(value) if key == NUM_EXAMPLES and value is not None else value


def _rows(models: Sequence[ModelReport]) -> list[list[float | int | str | None]]:
    return [[f"client {model.name}", *(_figure(model, key) for _, key in _columns(models))] for model in models]


def _aggregate(models: Sequence[ModelReport], tested: Mapping[str, Line]) -> list[list[float | int | str | None]]:
    """The line of the aggregate, which has been tested and never trained."""
    if "aggregate" not in tested:
        return []
    aggregate = ModelReport("aggregate", {}, tested=tested["aggregate"])
    return [["aggregate", *(_figure(aggregate, key) for _, key in _columns(models))]]


def _epoch_charts(models: Sequence[ModelReport]) -> list[Chart]:
    """A figure by epoch, a line a model: the mean over its folds."""
    drawn = []
    for column, title in EPOCHS.items():
        rows = []
        for model in models:
            by_epoch: dict[int, list[float]] = {}
            for line in model.epochs:
                if column in line and "epoch" in line:
                    by_epoch.setdefault(int(line["epoch"]), []).append(line[column])
            rows += [_row(epoch, model.name, column, _mean(values)) for epoch, values in by_epoch.items()]
        for epoch in sorted({row["round"] for row in rows}):
            of_all = [row[column] for row in rows if row["round"] == epoch]
            rows.append(_row(epoch, "all", column, _mean(of_all)))
        if rows:
            chart = charts.curve(rows, column, WORDS)
            drawn.append(Chart(title, chart.svg, chart.legend, note=chart.note))
    return drawn


def _row(epoch: int, client: str, column: str, value: float) -> dict[str, int | str | float]:
    return {"round": epoch, "phase": "train", "client": client, column: value}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _fold_charts(models: Sequence[ModelReport]) -> list[Chart]:
    """Each fold's figure as a dot, and their mean as a stroke: a row a model."""
    drawn = []
    for measure in MEASURES:
        shown = [model for model in models if any(measure in line for line in model.folds)]
        if not shown:
            continue
        known = [line[measure] for model in shown for line in model.folds if measure in line]
        y = Axis(len(shown) - 0.5, -0.5, [(place, f"client {model.name}") for place, model in enumerate(shown)])
        axes = Axes(f"{measure} of each fold", number_axis(known), y, height=44 + 20 * len(shown), grid="x")
        for place, model in enumerate(shown):
            values = {int(line["fold"]): line[measure] for line in model.folds if measure in line and "fold" in line}
            axes.dots([(value, place) for value in values.values()], "var(--clients)", 3.5, 0.75)
            mean = _mean([*values.values()])
            axes.line([(mean, place - 0.35), (mean, place + 0.35)], INK, 2)
            said = [f"client {model.name}: mean {figure(mean)}"]
            said += [f"fold {fold}: {figure(value)}" for fold, value in values.items()]
            axes.hover((axes.low_x, axes.high_x), "\n".join(said), (place - 0.5, place + 0.5))
        note = "A dot a fold, on the rows that it held out; the stroke is their mean."
        drawn.append(Chart(f"{measure} of each fold", axes.svg(), note=note))
    return drawn


def _fold_rows(models: Sequence[ModelReport]) -> list[list[float | int | str | None]]:
    """Every fold of every model, then its mean and the standard deviation of the sample."""
    rows: list[list[float | int | str | None]] = []
    for model in models:
        for line in model.folds:
            counts = [int(line[name]) if name in line else None for name in ("fold", "held_out", "epochs")]
            rows.append([f"client {model.name}", *counts, *(line.get(measure) for measure in MEASURES)])
        if len(model.folds) > 1:
            values = {name: [line[name] for line in model.folds if name in line] for name in MEASURES}
            means = {name: _mean(found) if found else None for name, found in values.items()}
            stds = {name: _std(found) if len(found) > 1 else None for name, found in values.items()}
            for word, of in (("mean", means), ("std", stds)):
                rows.append([f"client {model.name}", word, None, None, *(of[name] for name in MEASURES)])
    return rows


def _std(values: Sequence[float]) -> float:
    mean = _mean(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


COLLECTED = """
{% import "pieces" as pieces %}
{% if faults %}<div class="notes">{% for fault in faults %}<p>{{ fault }}</p>{% endfor %}</div>{% endif %}
<div class="grid"><div class="card full"><h3>Figures of each model</h3>
{{ pieces.cells(heads, rows) }}
{% for note in notes %}<small>{{ note }}</small>{% endfor %}</div></div>
<div class="grid pair" style="margin: .8rem 0">
{% for picture in pictures %}{{ pieces.chart(picture) }}{% endfor %}</div>
<div class="grid">
{% if folds %}<div class="card full"><h3>Folds</h3>
{{ pieces.cells(["model", "fold", "held out", "epochs", "accuracy", "loss"], folds) }}</div>{% endif %}
</div>
"""
