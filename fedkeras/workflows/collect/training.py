"""One client's whole training in one go, as `--mode collect` asks for it: the model, and what there is to tell of it.

Files: `model.keras`; `epochs.csv`, a line an epoch; `log.txt`; with k-fold `folds.csv`, a line a fold, then mean and
standard deviation; and `normaliser.npz` and `labels.json`, without which nobody could use the model on raw data.
"""

import csv
import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from fedkeras import models
from fedkeras.config import Config
from fedkeras.provisioning import preprocessing
from fedkeras.provisioning.client_data import ProvisionedClient
from fedkeras.randomness import generator

Figures = dict[str, float]
Say = Callable[[str, int, int, str], None]
"""Told what is being done in words, how many epochs of how many are done (all folds'), and what the last one gave."""


def train(
    config: Config, seat: ProvisionedClient, learner: object, examples: Callable[[int], tuple], folder: Path, say: Say
) -> Figures:
    """Train the learner's model; leave the files in `folder` and return the figures.

    `examples(0)` are (x, y), placed; `examples(2)` the same as k-fold's second fold sees them. Raises UserError.
    """
    epochs, trainings = config.local_epochs, 1
    if config.method == "kfold":
        trainings = config.folds + (config.kfold_return == "refit")
    log = Log(say, epochs * trainings)
    rng = generator(config.seed, "train", 0, seat.cid)
    lines: list[dict] = []
    started = time.perf_counter()
    log.say("training", 0)
    count = len(seat.sides(config)[0]) if config.data_source != "keras" else len(examples(0)[0])
    log.write(f"client {seat.cid}: {count} examples, {config.method}, {epochs} epochs")

    def on_epoch(fold: int, epoch: object) -> None:
        lines.append({"fold": fold, **dataclasses.asdict(epoch)})
        of = f"{epoch.epoch}/{epochs}"
        state = f"fold {fold}/{config.folds}, epoch {of}" if fold else f"training epoch {of}"
        before = (fold or trainings) - 1  # who stops early is as far as one who has trained all epochs
        log.epoch(state, before * epochs + epoch.epoch, epoch)

    if config.method == "kfold":
        figures, fold = _cross_validate(config, seat, learner, examples, rng, folder, on_epoch, log)
    else:
        figures, fold = _fit(config, seat, learner, examples(0), rng, on_epoch), 0
    figures |= {"num-examples": count, "seconds": time.perf_counter() - started}
    log.say("saving", log.total)
    log.write(", ".join(f"{name} {value:.6g}" for name, value in figures.items()))
    models.save(learner.model, folder / "model.keras")
    preprocessing.save(seat.settlement.of_fold(fold), folder)
    _write_csv(folder / "epochs.csv", lines)
    (folder / "log.txt").write_text("".join(f"{line}\n" for line in log.lines))
    return figures


class Log:
    """The text log, and the client's state as others see it."""

    def __init__(self, say: Say, total: int) -> None:
        self.lines: list[str] = []
        self._say, self.total = say, total

    def say(self, state: str, done: int, note: str = "") -> None:
        """Tell others."""
        self._say(state, done, self.total, note)

    def write(self, line: str) -> None:
        """A line, with the time."""
        self.lines.append(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}")

    def epoch(self, state: str, done: int, epoch: object) -> None:
        """A finished epoch."""
        named = {"loss": epoch.loss, "accuracy": epoch.accuracy}
        named |= {"val_loss": epoch.val_loss, "val_accuracy": epoch.val_accuracy}
        self.say(state, done, ", ".join(f"{key} {value:.4g}" for key, value in named.items() if value is not None))
        self.write(f"{state}: " + ", ".join(f"{key} {value:.6g}" for key, value in named.items() if value is not None))


def _fit(
    config: Config,
    seat: ProvisionedClient,
    learner: object,
    examples: tuple,
    rng: np.random.Generator,
    on_epoch: Callable,
) -> Figures:
    from fedkeras.learning.early_stopping import fit, hold_back

    classes = None
    if config.data_source != "keras" and seat.are_classes(config):
        classes = seat.settlement.labels.encode(np.asarray(seat.y))
    rows, validation = hold_back(len(examples[0]), config.validation, rng, classes)
    fitted = fit(
        learner, *examples, epochs=config.local_epochs, batch_size=config.batch_size, rng=rng, rows=rows,
        validation=validation, patience=config.patience, on_epoch=lambda epoch: on_epoch(0, epoch),
    )  # fmt: skip
    best = fitted.epochs[fitted.best - 1]
    named = {"loss": best.loss, "accuracy": best.accuracy, "val-loss": best.val_loss, "val-accuracy": best.val_accuracy}
    return {key: value for key, value in named.items() if value is not None}


def _cross_validate(
    config: Config, seat: ProvisionedClient, learner: object, examples: Callable[[int], tuple],
    rng: np.random.Generator,
    folder: Path, on_epoch: Callable, log: Log,
) -> tuple[Figures, int]:  # fmt: skip
    """The figures, and the number of the fold whose model is kept; 0: none's, it was trained again on all rows."""
    from fedkeras.learning.cross_validation import cross_validate, split

    if config.data_source == "keras":
        parts = split(len(examples(0)[0]), config.folds, generator(config.seed, "folds", seat.cid))
    else:
        parts = seat.folds(config)
    done = cross_validate(
        learner, examples, parts, epochs=config.local_epochs, batch_size=config.batch_size, rng=rng,
        patience=config.patience, returns=config.kfold_return, on_epoch=on_epoch,
    )  # fmt: skip
    table = []
    for fold in done.folds:
        own = {"loss": fold.outcome.loss, "accuracy": fold.outcome.accuracy, **fold.outcome.metrics}
        about = {"fold": fold.number, "held_out": len(fold.held_out), "epochs": len(fold.fitted.epochs)}
        table.append({**about, "best_epoch": fold.fitted.best, **own})
    table += [{"fold": "mean", **done.mean}, {"fold": "std", **done.std}]
    _write_csv(folder / "folds.csv", table)
    whose = "of it" if done.refitted is None else "trained again on all rows"
    log.write(f"the best fold is {done.best}; the model is {whose}")
    last = done.refitted or done.folds[done.best - 1].fitted
    epoch = last.epochs[last.best - 1]
    figures = {"loss": epoch.loss, "accuracy": epoch.accuracy}
    figures |= {f"val-{name}": value for name, value in done.mean.items()}
    figures = {name: value for name, value in figures.items() if value is not None}
    return figures, done.best if done.refitted is None else 0


def _write_csv(path: Path, lines: Iterable[Mapping]) -> None:
    lines = list(lines)
    names = list(dict.fromkeys(name for line in lines for name in line))
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, names)
        table.writeheader()
        table.writerows({name: "" if value is None else value for name, value in line.items()} for line in lines)
