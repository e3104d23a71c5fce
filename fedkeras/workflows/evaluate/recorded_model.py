"""A model that a run has left behind: the final one, the best, or that of a round that has a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedkeras import models
from fedkeras.errors import UserError
from fedkeras.reports import DIVERGED, RunFolder, checkpoints
from fedkeras.reports.run import read_table

FINAL, BEST = "final", "best"


@dataclass(frozen=True)
class RecordedModel:
    """The weights by name, the round after which the run had them, and the file they are from."""

    round: int
    weights: Mapping[str, np.ndarray]
    trainable: tuple[str, ...] | None
    """Names of those that are trained; None: the file does not say it."""
    path: Path


def round_of(folder: RunFolder, which: str) -> int:
    """The round of the model that `which` names: "final", "best" or a number. Raises UserError."""
    summary = read_table(folder.summary_path)
    if which == FINAL:
        if summary.get("status") not in ("finished", DIVERGED):
            raise UserError(f"{folder.path} has not come to its end: {_choice(folder)}")
        return int(summary.get("model_round") or summary["rounds"])
    if which == BEST:
        if not isinstance(summary.get("best_round"), int):
            raise UserError(f"{folder.path} does not say which round was its best: {_choice(folder)}")
        return summary["best_round"]
    if not which.isdecimal() or int(which) < 1:
        raise UserError(f"'{which}' is no round: give final, best, or the number of a round")
    return int(which)


def recorded_model(folder: RunFolder, which: str, trust_code: bool) -> RecordedModel:
    """The model that `which` names, from its checkpoint, or else from the final model's file. Raises UserError."""
    number = round_of(folder, which)
    path = checkpoints.path_of(folder, number)
    if path.is_file():
        try:
            found = checkpoints.read(path)
        except checkpoints.Damaged as error:
            raise UserError(f"{path} {error}") from error
        return RecordedModel(number, found.weights, found.trainable, path)
    summary = read_table(folder.summary_path)
    if number != int(summary.get("model_round") or summary.get("rounds") or 0):
        raise UserError(f"{folder.path} has no model of round {number}: {_choice(folder)}")
    return _final(folder, number, trust_code)


def _final(folder: RunFolder, number: int, trust_code: bool) -> RecordedModel:
    bare = folder.path / "weights.npz"  # of a server that could not build the model
    if folder.model_path.is_file():
        model = models.load(folder.model_path, trust_code)
        names = tuple(models.trainable_names(model))
        return RecordedModel(number, models.get_weights(model), names, folder.model_path)
    if not bare.is_file():
        raise UserError(f"{folder.path} holds no model of its last round: neither a checkpoint nor model.keras")
    try:
        with np.load(bare, allow_pickle=False) as file:
            return RecordedModel(number, {name: file[name] for name in file.files}, None, bare)
    except (OSError, ValueError) as error:
        raise UserError(f"{bare} is damaged: {error}") from error


def _choice(folder: RunFolder) -> str:
    kept = checkpoints.rounds_of(folder)
    if not kept:
        return "there is no checkpoint to test either"
    return f"there are checkpoints of the rounds {', '.join(map(str, kept))} (--keep-checkpoints)"
