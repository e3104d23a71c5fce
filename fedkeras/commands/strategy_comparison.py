"""`fedkeras aggregate --compare`: what several strategies make of the same model files, and which is the best model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedkeras import models
from fedkeras.atomic import replace_file
from fedkeras.checkout import typed
from fedkeras.commands.tested_models import TestSet, tested
from fedkeras.errors import UserError
from fedkeras.federation.offline_aggregation import NOTES, check_strategy, combine, held_near
from fedkeras.models.training_note import TrainingNote, write_note
from fedkeras.reports import model_comparison
from fedkeras.reports.model_comparison import TestedModel, best_of
from fedkeras.reports.predictions import classification_table
from fedkeras.reports.run_folder import new_folder, without_nan

if TYPE_CHECKING:
    import keras
    from flwr.serverapp.strategy import Strategy

Weights = Mapping[str, np.ndarray]
PROXIMAL = "fedprox"
"""The strategy that --base is for, where several are compared."""
WIDTH = 80


@dataclass(frozen=True)
class Base:
    """The global model from which the parts started, and how near to it the proximal aggregate is held."""

    path: Path
    weights: Weights
    mu: float


def read_strategies(text: str, args: Mapping[str, object], has_base: bool) -> "dict[str, Strategy]":
    """The strategies that --compare names, by name. Raises UserError for what has no meaning without rounds."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UserError(f"--compare names {twice} twice")
    if args and len(names) != 1:
        raise UserError("--strategy-args needs exactly one strategy in --compare: they would be every strategy's")
    if PROXIMAL in names and not has_base:
        raise UserError(
            f"--compare {PROXIMAL} needs --base FILE, the global model from which the parts started; without, its "
            "aggregate is fedavg's"
        )
    if has_base and PROXIMAL not in names:
        raise UserError(f"--base holds the aggregate of {PROXIMAL} near a model: name {PROXIMAL} in --compare")
    return {name: check_strategy(name, args) for name in names}


def make_folder(out: str) -> Path | None:
    """--out as a new folder; None: nothing is to be kept. Raises UserError."""
    if not out:
        return None
    if Path(out).suffix in (".keras", ".h5"):
        raise UserError(f"--out {out}: with --compare it is a folder, for the models and the page")
    return new_folder(out)


def short_names(paths: Sequence[str]) -> list[str]:
    """What tells these files apart: paths without the folders, and without the file's name, that all of them share."""
    words = [list(Path(path).parts) for path in paths]
    while len({each[0] for each in words}) == 1 and all(len(each) > 1 for each in words):
        words = [each[1:] for each in words]
    if len({each[-1] for each in words}) == 1 and all(len(each) > 1 for each in words):
        words = [each[:-1] for each in words]
    return [str(Path(*each)) for each in words]


def compare(
    strategies: "Mapping[str, Strategy]",
    parts: Mapping[str, Weights],
    counts: Sequence[int] | None,
    model: "keras.Model",
    test: TestSet,
    loss: str,
    base: Base | None,
    folder: Path | None,
    note: TrainingNote | None,
) -> list[TestedModel]:
    """Combine by each strategy, test all models, print the table, and leave models and page in `folder`.

    `counts` are the parts' examples (None: all count the same); `note` is what the combined models' files say. Raises
    UserError.
    """
    trained, aggregates = models.trainable_names(model), {}
    for name, strategy in strategies.items():
        try:
            mean = combine(strategy, parts, counts or [1] * len(parts), trained)
        except UserError as error:
            raise UserError(f"--compare {name}: {error}") from error
        aggregates[name] = held_near(mean, base.weights, base.mu, trained) if name == PROXIMAL and base else mean
    total = sum(counts) if counts else None
    rows = [*zip(short_names([*parts]), counts or [None] * len(parts), parts.values(), strict=True)]
    rows += [(f"base {base.path.name}", None, base.weights)] if base else []
    rows += [
        (name, None if name in NOTES and name != PROXIMAL else total, weights) for name, weights in aggregates.items()
    ]
    found = tested(rows, model, test, loss)
    notes = [text for name, text in NOTES.items() if name in strategies and name != PROXIMAL]
    if base:
        notes.append(f"{PROXIMAL} is held near {base.path} with mu {base.mu:g}: (mean + mu base) / (1 + mu)")
    _print(found, test, notes, folder)
    if folder is not None:
        for name, weights in aggregates.items():
            path = folder / f"{name.replace(':', '-')}.keras"
            models.set_weights(model, weights)
            models.save(model, path)
            if note is not None:
                write_note(path, note)
        _write(found, test, notes, folder)
    return found


def _print(found: Sequence[TestedModel], test: TestSet, notes: Sequence[str], folder: Path | None) -> None:
    print(f"tested on {test.name}, {len(test.y)} examples", f"scaling: {test.scaling}", *notes, "", sep="\n")
    print(*model_comparison.table(found, WIDTH), sep="\n")
    best = best_of(found)
    if best is None:
        print("no model has a finite loss")
    elif best.predictions is not None:
        print(f"\nclassification report of {best.name}:", *classification_table(best.predictions, WIDTH), sep="\n")
        print("the test set has chosen the best, so its figures flatter it a little")
    if folder is None:
        print(
            f"\nto keep the models, and a page with each one's report: {typed('aggregate', '...', '--out', 'FOLDER')}"
        )


def _write(found: Sequence[TestedModel], test: TestSet, notes: Sequence[str], folder: Path) -> None:
    table = {"test": test.name, "scaling": test.scaling, "models": model_comparison.as_json(found)}
    text = json.dumps(without_nan(table), indent=1, allow_nan=False)
    replace_file(folder / "comparison.json", f"{text}\n".encode())
    subtitle = f"tested on {test.name}, {len(test.y)} examples; scaling: {test.scaling}"
    html = model_comparison.page(found, f"{len(found)} models side by side", subtitle, notes)
    replace_file(folder / "comparison.html", html.encode("utf-8", errors="replace"))
    print(f"\nmodels: {folder}", f"page: {folder / 'comparison.html'}", sep="\n")
