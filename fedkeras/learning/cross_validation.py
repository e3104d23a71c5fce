"""K-fold cross-validation: K trainings from the same initial weights, each tested once on the rows it did not see.

The folds are scikit-learn's, stratified where the targets are classes. Early stopping inside a fold goes by a part of
that fold's training rows: a figure that chose the epoch would be no figure of rows that were not seen. M. Stone,
"Cross-Validatory Choice and Assessment of Statistical Predictions", Journal of the Royal Statistical Society B 36(2),
1974; on choosing within the folds S. Varma, R. Simon, "Bias in error estimation when using cross-validation for model
selection", BMC Bioinformatics 7:91, 2006.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from fedkeras.errors import UserError
from fedkeras.learning.early_stopping import Epoch, Fitted, fit, hold_back
from fedkeras.learning.learner import Learner
from fedkeras.learning.results import TrainingResult

RETURNS = ("best", "refit")

VALIDATION_SHARE = 0.2
"""Of a fold's training rows, for early stopping where no share is given."""


@dataclass(frozen=True)
class Fold:
    """One training: `number` from 1, the rows it was tested on, its epochs, and the held-out rows' loss and metrics.

    The rows were tested once, with the weights that the training came to.
    """

    number: int
    held_out: np.ndarray
    fitted: Fitted
    outcome: TrainingResult


@dataclass(frozen=True)
class CrossValidated:
    """All folds; `best` is the number of the one with the lowest held-out loss; `refitted` the training on all rows.

    `mean` and `std` are over the folds' held-out figures by name (loss, accuracy, ...), each fold counted once; `std`
    is the sample's (folds - 1 below the sum), empty for a single fold. The figures of `best` alone are chosen by what
    they are, and so better than what to expect. The model has the weights that `returns` names.
    """

    folds: list[Fold]
    best: int
    mean: dict[str, float]
    std: dict[str, float]
    refitted: Fitted | None = None


def split(
    count: int, folds: int, rng: np.random.Generator, classes: np.ndarray | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(training rows, held-out rows) of each fold: held-out parts are disjoint and together all rows 0..count-1.

    With `classes` (count,) stratified; a class with fewer rows than folds is missing from some of them. Raises
    UserError for more folds than rows.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    if folds < 2:
        raise UserError(f"--folds is {folds}; there must be 2 at least")
    if folds > count:
        raise UserError(f"--folds is {folds}, but there are only {count} examples")
    seed = int(rng.integers(2**31))
    if classes is None or np.bincount(np.unique(classes, return_inverse=True)[1]).max() < folds:
        return list(KFold(folds, shuffle=True, random_state=seed).split(np.zeros(count)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer rows than folds
        return list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(np.zeros(count), classes))


def cross_validate(
    learner: Learner,
    examples: Callable[[int], tuple[tf.Tensor, tf.Tensor]],
    parts: list[tuple[np.ndarray, np.ndarray]],
    *,
    epochs: int,
    batch_size: int,
    rng: np.random.Generator,
    validation: float = 0.0,
    classes: np.ndarray | None = None,
    patience: int = 0,
    min_delta: float = 0.0,
    returns: str = "best",
    on_epoch: Callable[[int, Epoch], None] = lambda fold, epoch: None,
    sample_weight: tf.Tensor | None = None,
) -> CrossValidated:
    """Train and test once for each of `parts`, which are from `split`, from the model's present weights.

    `examples(number)` gives x and y, all rows, from `learner.place`, as fold `number` (from 1) sees them, and 0 the
    refit: what examples are scaled by may be learned on a fold's training rows. Only one fold's are held at a time.
    `validation` is the share of a fold's training rows, in proportion to `classes` (rows,), that is not trained on but
    tested after each epoch, and what early stopping (`patience`) goes by; unset, VALIDATION_SHARE with early stopping
    and none without. The held-out rows are tested when all that is over. Afterwards the model has the weights of the
    fold with the lowest held-out loss (`returns` "best"), or of one more training from the same start on all rows
    ("refit"): for as many epochs as the folds' best ones on average, where they stopped early, else for `epochs`.
    `on_epoch` is called with the fold's number (0: the refit) and the epoch. `sample_weight` (all rows,) is as in
    `Learner.train`; held-out figures are unweighted. Raises UserError, also where no fold comes to a finite loss.
    """
    if returns not in RETURNS:
        raise UserError(f"--kfold-return is '{returns}'; allowed are: {', '.join(RETURNS)}")
    start = learner.get_weights()
    options = {"epochs": epochs, "batch_size": batch_size, "sample_weight": sample_weight}
    share = validation or (VALIDATION_SHARE if patience else 0.0)
    own = rng.spawn(len(parts) + 1)  # so that a fold does not depend on how long the one before it trained
    done: list[Fold] = []
    kept, best, lowest = start, 0, np.inf
    for number, (rows, held_out) in enumerate(parts, start=1):
        learner.set_weights(start)
        x, y = examples(number)
        shown = _with_fold(on_epoch, number)
        trained_on, validated_on = _within(rows, share, own[number].spawn(1)[0], classes)
        fitted = fit(
            learner, x, y, **options, patience=patience, min_delta=min_delta, rng=own[number],
            rows=trained_on, validation=validated_on, on_epoch=shown,
        )  # fmt: skip
        outcome = learner.evaluate(tf.gather(x, held_out), tf.gather(y, held_out))
        del x, y
        done.append(Fold(number, held_out, fitted, outcome))
        if outcome.loss < lowest:
            best, lowest = number, outcome.loss
            kept = learner.get_weights() if returns == "best" else kept
    if not best:
        losses = ", ".join(f"{fold.outcome.loss:g}" for fold in done)
        raise UserError(f"no fold's loss is finite ({losses}): a smaller --learning-rate may help")
    refitted = None
    learner.set_weights(kept)
    if returns == "refit":
        if patience:
            options["epochs"] = max(1, round(np.mean([fold.fitted.best for fold in done])))
        refitted = fit(learner, *examples(0), **options, rng=own[0], on_epoch=_with_fold(on_epoch, 0))
    table = [_figures(fold.outcome) for fold in done]
    values = {name: [row[name] for row in table] for name in table[0]}
    means = {name: float(np.mean(column)) for name, column in values.items()}
    stds = {name: float(np.std(column, ddof=1)) for name, column in values.items() if len(column) > 1}
    return CrossValidated(done, best, means, stds, refitted)


def _within(
    rows: np.ndarray, share: float, rng: np.random.Generator, classes: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """A fold's training rows as those that are trained on and those that decide when to stop."""
    chosen = hold_back(len(rows), share, rng, None if classes is None else classes[rows])
    return rows[chosen[0]], rows[chosen[1]]


def _with_fold(on_epoch: Callable[[int, Epoch], None], number: int) -> Callable[[Epoch], None]:
    return lambda epoch: on_epoch(number, epoch)


def _figures(outcome: TrainingResult) -> dict[str, float]:
    accuracy = {} if outcome.accuracy is None else {"accuracy": outcome.accuracy}
    return {"loss": outcome.loss, **accuracy, **outcome.metrics}
