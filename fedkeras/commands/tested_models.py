"""The test set on which `fedkeras aggregate` tests models, scaled as the models' own examples were; and the testing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedkeras import data, scaling
from fedkeras.config import Config
from fedkeras.data.normalise import Normaliser, checked_normaliser, fit
from fedkeras.data.npz import read_test
from fedkeras.errors import UserError
from fedkeras.models.training_note import TrainingNote
from fedkeras.reports.model_comparison import TestedModel
from fedkeras.reports.predictions import Predictions

if TYPE_CHECKING:
    import keras

Notes = Mapping[Path, TrainingNote | None]
"""What each part's file says of its training."""


@dataclass(frozen=True)
class TestSet:
    """x (n, ...) as the models take it, y (n,) labels or (n, ...) amounts; what it is and how scaled, in words."""

    x: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...] | None
    name: str
    scaling: str


def agreed_scaling(notes: Notes) -> Normaliser | None:
    """The scaling that the files' notes agree on; None: not one has a note. Raises UserError if they do not agree."""
    first: tuple[Path, Normaliser] | None = None
    for path, note in notes.items():
        if note is None:
            continue
        try:
            own = checked_normaliser(note.normaliser, np.array(note.shift), np.array(note.spread))
        except (ValueError, TypeError) as error:
            raise UserError(f"{path} does not say rightly by what its examples were scaled: {error}") from None
        if first is None:
            first = path, own
        elif not _same(first[1], own):
            raise UserError(
                f"{first[0]} was trained on examples scaled by {first[1].said}, and {path} by {own.said}: no test set "
                "fits both, and their mean is no model; `data --write` gives parts one scaling"
            )
    return first and first[1]


def test_set_of_file(path: Path, notes: Notes, normaliser: str) -> TestSet:
    """x_test and y_test of an .npz file. `normaliser` is --normaliser's. Raises UserError."""
    found = read_test(path)
    own = found.normaliser
    if normaliser == "none":
        chosen, why = fit("none", None), "--normaliser"
    elif normaliser != "default":
        if own is None or own.name != normaliser:
            raise UserError(f"--normaliser {normaliser} is learned from training rows, and {path} does not say it")
        chosen, why = own, f"as {path} says"
    elif (noted := agreed_scaling(notes)) is not None:
        chosen, why = noted, "as the models' files say"
    elif reason := scaling.scaling_of(Config(model=str(next(iter(notes))))).reason:
        chosen, why = fit("none", None), reason.removeprefix("none, ")
    elif own is not None:
        chosen, why = own, f"as {path} says"
    else:
        raise UserError(
            f"neither the models' files nor {path} say what examples are scaled by; --normaliser none takes them as "
            "they are"
        )
    _check_features(chosen, found.x, path)
    return TestSet(chosen.apply(found.x), found.y, found.classes, str(path), f"{chosen.said} ({why})")


def test_set_of_data_set(config: Config, notes: Notes) -> TestSet:
    """The central test set of the data set that `config` names. Raises UserError."""
    reason = scaling.scaling_of(config).reason
    resolved = scaling.resolved(config)
    source, noted = data.open_source(resolved), agreed_scaling(notes) if config.normaliser == "default" else None
    chosen = noted or data.pooled_normaliser(resolved)
    why = "as the models' files say" if noted else reason
    test = data.load_test(resolved, chosen)
    classes = source.classes if source.targets is None else None
    said = f"{chosen.said}{f' ({why})' if why else ''}"
    return TestSet(test.x, test.y, classes, f"the test set of {config.dataset}", said)


def _same(one: Normaliser, other: Normaliser) -> bool:
    numbers = zip((one.shift, one.spread), (other.shift, other.spread), strict=True)
    return one.name == other.name and all(np.array_equal(left, right) for left, right in numbers)


def _check_features(normaliser: Normaliser, x: np.ndarray, path: Path) -> None:
    if normaliser.shift.ndim and len(normaliser.shift) != x.shape[-1]:
        count = len(normaliser.shift)
        raise UserError(f"{path} has {x.shape[-1]} features, and the models' were {count}: it is another data set")


def tested(
    models: Sequence[tuple[str, int | None, Mapping[str, np.ndarray]]], model: "keras.Model", test: TestSet, loss: str
) -> list[TestedModel]:
    """Each of these (name, examples, weights), one after the other in `model`. Raises UserError for what does not fit.

    With a `loss` it is tested by that, else by the model's own.
    """
    from rich.console import Console

    from fedkeras.learning import Learner
    from fedkeras.learning.targets import predicted_classes
    from fedkeras.models.file_info import as_input

    learner = Learner(model, loss=loss)
    outputs = tuple(model.outputs[0].shape)[-1] if getattr(model, "outputs", None) else None
    classes = test.classes
    if classes is not None and outputs not in (None, 1) and outputs != len(classes):
        raise UserError(f"{test.name} has {len(classes)} classes, and the models tell {outputs} apart")
    try:
        placed = learner.place(as_input(learner.takes, test.x), test.y)
    except ValueError as error:
        raise UserError(f"{test.name}: the data do not fit the model: {error}") from error
    if classes is None and test.y.ndim == 1 and test.y.dtype.kind in "iu":
        classes = tuple(map(str, range(max(outputs or 0, int(test.y.max()) + 1))))
    found = []
    with Console(stderr=True).status("testing") as status:
        for name, examples, weights in models:
            status.update(f"testing {name}, {len(found) + 1} of {len(models)}")
            learner.set_weights(weights)
            outcome = learner.evaluate(*placed)
            predicted = None if classes is None else predicted_classes(learner.model, placed[0], test.y, len(classes))
            own = None if predicted is None else Predictions(test.y, predicted, classes)
            found.append(TestedModel(name, examples, outcome.loss, outcome.accuracy, own))
    return found
