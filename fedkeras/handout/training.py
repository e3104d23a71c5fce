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
from fedkeras.handout import settlement
from fedkeras.handout.seat import Seat
from fedkeras.randomness import generator

Figures = dict[str, float]


def train(
    config: Config, seat: Seat, learner: object, examples: tuple, folder: Path, say: Callable[[str], None]
) -> Figures:
    """Train the learner's model on `examples` (x, y), placed; leave the files in `folder` and return the figures.

    `say` is told what is being done: "training epoch 3/10", "fold 2/5, epoch 3/10". Raises UserError.
    """
    log = Log(say)
    classes = _classes(config, seat)
    rng = generator(config.seed, "train", 0, seat.cid)
    lines: list[dict] = []
    started = time.perf_counter()
    say("training")
    log.write(f"client {seat.cid}: {len(examples[0])} examples, {config.method}, {config.local_epochs} epochs")

    def on_epoch(fold: int, epoch: object) -> None:
        lines.append({"fold": fold, **dataclasses.asdict(epoch)})
        of = f"{epoch.epoch}/{config.local_epochs}"
        state = f"fold {fold}/{config.folds}, epoch {of}" if fold else f"training epoch {of}"
        log.epoch(state, epoch)

    if config.method == "kfold":
        figures = _cross_validate(config, learner, examples, classes, rng, folder, on_epoch, log)
    else:
        figures = _fit(config, learner, examples, classes, rng, on_epoch)
    figures |= {"num-examples": len(examples[0]), "seconds": time.perf_counter() - started}
    say("saving")
    log.write(", ".join(f"{name} {value:.6g}" for name, value in figures.items()))
    models.save(learner.model, folder / "model.keras")
    settlement.save(seat.settlement, folder)
    _write_csv(folder / "epochs.csv", lines)
    (folder / "log.txt").write_text("".join(f"{line}\n" for line in log.lines))
    return figures


class Log:
    """The text log, and the client's state as others see it."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.lines: list[str] = []
        self._say = say

    def write(self, line: str) -> None:
        """A line, with the time."""
        self.lines.append(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}")

    def epoch(self, state: str, epoch: object) -> None:
        """A finished epoch."""
        self._say(state)
        named = {"loss": epoch.loss, "accuracy": epoch.accuracy}
        named |= {"val_loss": epoch.val_loss, "val_accuracy": epoch.val_accuracy}
        self.write(f"{state}: " + ", ".join(f"{key} {value:.6g}" for key, value in named.items() if value is not None))


def _fit(
    config: Config, learner: object, examples: tuple, classes: np.ndarray | None, rng: np.random.Generator,
    on_epoch: Callable,
) -> Figures:  # fmt: skip
    from fedkeras.learning.fitting import fit, hold_back

    rows, validation = hold_back(len(examples[0]), config.validation, rng, classes)
    fitted = fit(
        learner, *examples, epochs=config.local_epochs, batch_size=config.batch_size, rng=rng, rows=rows,
        validation=validation, patience=config.patience, on_epoch=lambda epoch: on_epoch(0, epoch),
    )  # fmt: skip
    best = fitted.epochs[fitted.best - 1]
    named = {"loss": best.loss, "accuracy": best.accuracy, "val-loss": best.val_loss, "val-accuracy": best.val_accuracy}
    return {key: value for key, value in named.items() if value is not None}


def _cross_validate(
    config: Config, learner: object, examples: tuple, classes: np.ndarray | None, rng: np.random.Generator,
    folder: Path, on_epoch: Callable, log: Log,
) -> Figures:  # fmt: skip
    from fedkeras.learning.kfold import cross_validate

    done = cross_validate(
        learner, *examples, folds=config.folds, epochs=config.local_epochs, batch_size=config.batch_size, rng=rng,
        classes=classes, patience=config.patience, returns=config.kfold_return, on_epoch=on_epoch,
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
    return {name: value for name, value in figures.items() if value is not None}


def _classes(config: Config, seat: Seat) -> np.ndarray | None:
    if config.data_source == "keras" or not seat.are_classes(config):
        return None
    return seat.settlement.labels.encode(np.asarray(seat.y))


def _write_csv(path: Path, lines: Iterable[Mapping]) -> None:
    lines = list(lines)
    names = list(dict.fromkeys(name for line in lines for name in line))
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, names)
        table.writeheader()
        table.writerows({name: "" if value is None else value for name, value in line.items()} for line in lines)
