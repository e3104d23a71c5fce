"""Training with a look at validation data after each epoch, and early stopping: Keras' `fit`, on a Learner's graphs.

Early stopping after L. Prechelt, "Early Stopping - But When?", Neural Networks: Tricks of the Trade, 1998: kept are
the weights of the epoch with the lowest validation loss; training ends when `patience` epochs brought none lower.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from fedkeras import stratified
from fedkeras.learning.learner import Learner
from fedkeras.learning.results import TrainingResult


@dataclass(frozen=True)
class Epoch:
    """A line of the table of epochs. None for what was not measured; seconds of wall time, validation included."""

    epoch: int
    loss: float
    accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None
    seconds: float


@dataclass(frozen=True)
class Fitted:
    """`best` is the number (from 1) of the epoch whose weights the model has now: the last, or the one restored."""

    epochs: list[Epoch]
    best: int
    stopped_early: bool


def fit(
    learner: Learner,
    x: tf.Tensor,
    y: tf.Tensor,
    *,
    epochs: int,
    batch_size: int,
    rng: np.random.Generator,
    rows: np.ndarray | None = None,
    validation: np.ndarray | None = None,
    patience: int = 0,
    min_delta: float = 0.0,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    sample_weight: tf.Tensor | None = None,
) -> Fitted:
    """Train the learner's model from its present weights, with a fresh optimizer, for `epochs` epochs at most.

    x and y are from `learner.place`. `rows` are trained on (all, if unset), `validation` is tested on after each
    epoch; both are indices, so that no second copy of the training data is made. With `patience` above 0, training ends
    after as many epochs without a validation loss (a training loss, without validation) lower by more than `min_delta`
    than the lowest so far, and the model gets that epoch's weights back. A loss that is not finite ends it as well.
    `sample_weight` (all rows,) is as in `Learner.train`; what is validated is unweighted.
    Raises ValueError for numbers out of range, and for rows in both.
    """
    if epochs < 1 or batch_size < 1 or patience < 0 or not min_delta >= 0:
        raise ValueError(f"epochs={epochs} and batch_size={batch_size} start at 1, patience={patience} at 0")
    rows = np.arange(int(x.shape[0])) if rows is None else rows
    tests = None
    if validation is not None and len(validation):
        if np.intersect1d(rows, validation).size:
            raise ValueError("rows that are trained on are no validation data")
        tests = tf.gather(x, validation), tf.gather(y, validation)
    table: list[Epoch] = []
    lowest, best, kept = math.inf, 0, None
    learner.begin_training(rng)
    for number in range(1, epochs + 1):
        started = time.perf_counter()
        trained = learner.train_epoch(x, y, rng.permutation(rows), batch_size, sample_weight)
        tested = learner.evaluate(*tests) if tests else None
        table.append(_line(number, trained, tested, time.perf_counter() - started))
        on_epoch(table[-1])
        watched = tested.loss if tested else trained.loss
        if not math.isfinite(watched):
            break
        if patience:
            if best == 0 or watched < lowest - min_delta:
                lowest, best, kept = watched, number, learner.get_weights()
            elif number - best >= patience:
                break
    if kept is None:
        learner.end_training()
        return Fitted(table, len(table), len(table) < epochs)
    learner.set_weights(kept)
    return Fitted(table, best, len(table) < epochs)


def hold_back(
    count: int, share: float, rng: np.random.Generator, classes: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Split rows 0..count-1 into (training, validation), sorted, about `share` of them for validation.

    With `classes` (count,), in proportion to them as far as whole rows allow. A share above 0 gives one row at least,
    and training keeps one; with a share of 0, or a single row, there is no validation. Raises ValueError.
    """
    if not 0 <= share < 1:
        raise ValueError(f"the validation share must be at least 0 and below 1, not {share}")
    chosen = stratified.sample(count, stratified.size(count, share), rng, classes)
    return np.setdiff1d(np.arange(count), chosen), chosen


def _line(number: int, trained: TrainingResult, tested: TrainingResult | None, seconds: float) -> Epoch:
    val = (tested.loss, tested.accuracy) if tested else (None, None)
    return Epoch(number, trained.loss, trained.accuracy, *val, seconds)
