"""Models side by side on one test set: as a table, and as a page with a classification report of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fedkeras.reports import grids
from fedkeras.reports.headline import figure, finite
from fedkeras.reports.page import render
from fedkeras.reports.predictions import Predictions, class_figures, classification
from fedkeras.reports.run_folder import Json
from fedkeras.reports.text_table import text_table

HEADS = ("model", "examples", "loss", "accuracy", "precision", "recall", "F1", "")
BEST = "best"

PAGE = """
{% extends "base" %}
{% import "pieces" as pieces %}
{% block content %}
<header><h1>{{ title }}</h1><p class="soft">{{ subtitle }}</p>
{% if notes %}<div class="notes">{% for note in notes %}<p>{{ note }}</p>{% endfor %}</div>{% endif %}
</header>

<section><h2>Side by side</h2><div class="card">{% call pieces.table(0, True, "whole") %}
<thead><tr>{% for head in heads %}<th>{{ head }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in rows %}<tr {% if row[-1] %}class="changed"{% endif %}><th class="run">{{ row[0] }}</th>
{% for cell in row[1:] %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody>{% endcall %}<small>{{ table_note }}</small></div></section>

{% for model in models %}<section><h2>{{ model.name }}</h2>
{% if model.confusion %}<div class="grid">{{ pieces.chart(model.confusion) }}
{{ pieces.by_class(model.classes, model.tested) }}</div>
{% else %}<p class="soft">No classification report: the model is no classifier of this test set.</p>{% endif %}
</section>{% endfor %}
{% endblock %}
"""
NOTE = (
    "Precision, recall and F1 are means over the classes, each counted once (macro). The best is that of the highest "
    "accuracy, and of equal ones that of the lowest loss. The test set has chosen it, so its figures flatter it a "
    "little."
)


@dataclass(frozen=True)
class TestedModel:
    """A model's figures on the test set; None where there are none. `examples` is what it counts for."""

    name: str
    examples: int | None
    loss: float
    accuracy: float | None
    predictions: Predictions | None

    @property
    def macro(self) -> tuple[float | None, float | None, float | None]:
        """Precision, recall and F1, means over the classes."""
        if self.predictions is None:
            return None, None, None
        means = class_figures(self.predictions)["macro avg"]
        return finite(means["precision"]), finite(means["recall"]), finite(means["f1-score"])


def best_of(models: Sequence[TestedModel]) -> TestedModel | None:
    """Of the highest accuracy, then of the lowest loss; None where no loss is finite."""
    good = [model for model in models if finite(model.loss) is not None]
    return min(good, key=lambda model: (-(model.accuracy or 0.0), model.loss), default=None)


def rows_of(models: Sequence[TestedModel]) -> list[tuple[str, ...]]:
    """The table's cells, a row a model, as HEADS has them; the best is marked."""
    best = best_of(models)
    return [
        (
            model.name,
            "-" if model.examples is None else str(model.examples),
            *(figure(value) for value in (model.loss, model.accuracy, *model.macro)),
            BEST if model is best else "",
        )
        for model in models
    ]


def table(models: Sequence[TestedModel], width: int | None) -> list[str]:
    """The same as aligned lines, at most `width` columns wide."""
    return text_table([HEADS, *rows_of(models)], width=width)


def as_json(models: Sequence[TestedModel]) -> list[dict[str, Json]]:
    """The same for a script, with the figures of each class by its name's number."""
    best = best_of(models)
    return [
        {"model": model.name, "examples": model.examples, "loss": model.loss, "accuracy": model.accuracy}
        | {"best": model is best}
        | {"by_class": None if model.predictions is None else class_figures(model.predictions)}
        for model in models
    ]


def page(models: Sequence[TestedModel], title: str, subtitle: str, notes: Sequence[str]) -> str:
    """The page's text."""
    shown = [
        {"name": model.name, "confusion": None, "classes": [], "tested": 0}
        if model.predictions is None
        else {
            "name": model.name,
            "confusion": grids.confusion(model.predictions),
            "classes": classification(model.predictions),
            "tested": len(model.predictions.labels),
        }
        for model in models
    ]
    return render(
        PAGE,
        title=title,
        subtitle=subtitle,
        notes=notes,
        heads=HEADS,
        rows=rows_of(models),
        table_note=NOTE,
        models=shown,
        made=f"Made by fedkeras, {datetime.now():%Y-%m-%d %H:%M}.",
    )
