"""One client's whole training in one go, as `--mode collect` asks for it: the model, and the tables that go with it.

Files: `model.keras`; `epochs.csv`, a line an epoch; `log.txt`; with k-fold `folds.csv`, a line a fold, then mean and
standard deviation; and `normaliser.npz`, `labels.json` and `columns.json`, without which nobody could use the model on
raw data.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedkeras import csv_text, models
from fedkeras.config import Config
from fedkeras.provisioning.client_data import ProvisionedClient, keras_folds
from fedkeras.randomness import generator
from fedkeras.workflows.collect.outbox import Figures

if TYPE_CHECKING:
    import tensorflow as tf

    from fedkeras.learning import Epoch, Learner
    from fedkeras.provisioning.client_data import Placed

ReportProgress = Callable[[str, int, int, str], None]
"""Called with the state in words, how many epochs (all folds') are done, of how many, and the last one's figures."""


def train_once(
    config: Config,
    client: ProvisionedClient,
    learner: "Learner",
    examples: Callable[[int], "Placed"],
    folder: Path,
    report: ReportProgress,
    sample_weight: "tf.Tensor | None" = None,
) -> Figures:
    """Train the learner's model; leave the files in `folder` and return the figures.

    `examples(0)` are (x, y), placed; `examples(2)` the same as k-fold's second fold sees them. `sample_weight` is what
    each example's loss is multiplied by in training; what is held out or held back is not weighted. Raises UserError.
    """
    training = _Training(config, client, learner, examples, report, sample_weight)
    started = time.perf_counter()
    training.log.report("training", 0)
    count = training.count_examples()
    training.log.write(f"client {client.cid}: {count} examples, {config.method}, {config.local_epochs} epochs")
    if config.method == "kfold":
        figures, fold = training.cross_validate(folder)
    else:
        figures, fold = training.fit(), 0
    figures |= {"num-examples": count, "seconds": time.perf_counter() - started}
    training.log.report("saving", training.log.total)
    training.log.write(", ".join(f"{name} {value:.6g}" for name, value in figures.items()))
    models.save(learner.model, folder / "model.keras")
    client.preprocessing.of_fold(fold).save(folder)
    _write_csv(folder / "epochs.csv", training.epochs)
    (folder / "log.txt").write_text("".join(f"{line}\n" for line in training.log.lines))
    return figures


class TrainingLog:
    """The text log, and the client's state as others see it; `total` epochs are to be trained, all folds'."""

    def __init__(self, report: ReportProgress, total: int) -> None:
        self.lines: list[str] = []
        self._report, self.total = report, total

    def report(self, state: str, done: int, note: str = "") -> None:
        """Show others the state, and how many epochs are done."""
        self._report(state, done, self.total, note)

    def write(self, line: str) -> None:
        """A line, with the time."""
        self.lines.append(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}")

    def epoch(self, state: str, done: int, epoch: "Epoch") -> None:
        """A finished epoch."""
        named = {"loss": epoch.loss, "accuracy": epoch.accuracy}
        named |= {"val_loss": epoch.val_loss, "val_accuracy": epoch.val_accuracy}
        self.report(state, done, ", ".join(f"{key} {value:.4g}" for key, value in named.items() if value is not None))
        self.write(f"{state}: " + ", ".join(f"{key} {value:.6g}" for key, value in named.items() if value is not None))


class _Training:
    """What a training's steps share; `epochs` are the lines of epochs.csv."""

    def __init__(
        self, config: Config, client: ProvisionedClient, learner: "Learner", examples: Callable[[int], "Placed"],
        report: ReportProgress, sample_weight: "tf.Tensor | None",
    ) -> None:  # fmt: skip
        self._sample_weight = sample_weight
        self._config, self._client, self._learner, self._examples = config, client, learner, examples
        self._trainings = config.folds + (config.kfold_return == "refit") if config.method == "kfold" else 1
        self._rng = generator(config.seed, "train", 0, client.cid)
        self.log = TrainingLog(report, config.local_epochs * self._trainings)
        self.epochs: list[dict[str, int | float | None]] = []

    def count_examples(self) -> int:
        """How many are trained on."""
        if self._config.data_source == "keras":
            return len(self._examples(0)[0])
        return len(self._client.train_and_test_rows(self._config)[0])

    def fit(self) -> Figures:
        """Train once, with early stopping by a part that is held back; the figures are those of the best epoch."""
        from fedkeras.learning.early_stopping import fit, hold_back

        config, examples = self._config, self._examples(0)
        rows, validation = hold_back(len(examples[0]), config.validation, self._rng, self._classes())
        fitted = fit(
            self._learner, *examples, epochs=config.local_epochs, batch_size=config.batch_size, rng=self._rng,
            rows=rows, validation=validation, patience=config.patience,
            on_epoch=lambda epoch: self._on_epoch(0, epoch), sample_weight=self._sample_weight,
        )  # fmt: skip
        best = fitted.epochs[fitted.best - 1]
        figures = {"loss": best.loss, "accuracy": best.accuracy}
        return _measured(figures | {"val-loss": best.val_loss, "val-accuracy": best.val_accuracy})

    def _classes(self) -> np.ndarray | None:
        """What rows are held back in proportion to: the number of each one's class; None where there are none."""
        config, client = self._config, self._client
        if config.data_source == "keras" or not client.preprocessing.labels:
            return None
        return client.preprocessing.labels.encode(np.asarray(client.y))

    def cross_validate(self, folder: Path) -> tuple[Figures, int]:
        """Train by k-fold and leave folds.csv in `folder`.

        Returns the figures, and the number of the fold whose model is kept; 0: none's, it was trained again on all
        rows. Raises UserError.
        """
        from fedkeras.learning.cross_validation import cross_validate

        config, client = self._config, self._client
        parts = keras_folds(config, client.cid) if config.data_source == "keras" else client.folds(config)
        done = cross_validate(
            self._learner, self._examples, parts, epochs=config.local_epochs, batch_size=config.batch_size,
            rng=self._rng, validation=config.validation, classes=self._classes(), patience=config.patience,
            returns=config.kfold_return, on_epoch=self._on_epoch, sample_weight=self._sample_weight,
        )  # fmt: skip
        table = []
        for fold in done.folds:
            own = {"loss": fold.outcome.loss, "accuracy": fold.outcome.accuracy, **fold.outcome.metrics}
            about = {"fold": fold.number, "held_out": len(fold.held_out), "epochs": len(fold.fitted.epochs)}
            table.append({**about, "best_epoch": fold.fitted.best, **own})
        table += [{"fold": "mean", **done.mean}, {"fold": "std", **done.std}]
        _write_csv(folder / "folds.csv", table)
        whose = "its" if done.refitted is None else "trained again on all rows"
        self.log.write(
            f"fold {done.best} has the lowest loss on the rows it held out, and the model is {whose}; that loss was "
            "chosen among the folds', so what to expect of new rows is their mean"
        )
        last = done.refitted or done.folds[done.best - 1].fitted
        epoch = last.epochs[last.best - 1]
        figures = {"loss": epoch.loss, "accuracy": epoch.accuracy}
        figures |= {f"cv-{name}": value for name, value in done.mean.items()}
        return _measured(figures), done.best if done.refitted is None else 0

    def _on_epoch(self, fold: int, epoch: "Epoch") -> None:
        """`fold` is 0 for a training on all rows."""
        config = self._config
        self.epochs.append({"fold": fold, **dataclasses.asdict(epoch)})
        of = f"{epoch.epoch}/{config.local_epochs}"
        state = f"fold {fold}/{config.folds}, epoch {of}" if fold else f"training epoch {of}"
        before = (fold or self._trainings) - 1  # who stops early is as far as one who has trained all epochs
        self.log.epoch(state, before * config.local_epochs + epoch.epoch, epoch)


def _measured(figures: Mapping[str, float | None]) -> Figures:
    return {name: value for name, value in figures.items() if value is not None}


def _write_csv(path: Path, lines: Sequence[Mapping[str, int | float | str | None]]) -> None:
    names = list(dict.fromkeys(name for line in lines for name in line))
    path.write_bytes(csv_text.text_of([names, *([line.get(name) for name in names] for line in lines)]).encode())
