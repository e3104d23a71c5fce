"""What clients say of their data, and what all agree upon: how examples are scaled, and which number each class has."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import RecordDict

from data import labels, statistics
from data.labels import Labels
from data.normalise import normaliser_from
from data.statistics import Statistics
from fedkeras.config import Config
from fedkeras.errors import RunFailed, UserError
from fedkeras.handout.model_file import ModelFile
from fedkeras.handout.parcels import arrays_from, value_of
from fedkeras.handout.settlement import Settlement
from strategies.dialogue import Refused


@dataclass(frozen=True)
class Described:
    """What a client says of its data; `statistics` of its rows, or with k-fold of each part, or none at all.

    `labels` is None where there are none.
    """

    rows: int
    statistics: list[Statistics]
    labels: Labels | None


def described_in(answer: RecordDict) -> Described:
    """A client's answer to `describe`. Raises Refused."""
    arrays, classes, rows = arrays_from(answer), value_of(answer, "classes", str), value_of(answer, "rows", int)
    try:
        found = labels.from_dict(json.loads(classes)) if classes else None
        return Described(rows, _each_part(arrays), found)
    except (ValueError, AttributeError, RecursionError) as error:
        raise Refused(f"describes its data wrongly: {error}") from error


def agree(config: Config, described: Mapping[int, Described], model: ModelFile) -> Settlement:
    """Merge what the clients say of their data, in the order of cid. Raises RunFailed where it does not fit."""
    name = "none" if config.normaliser == "default" or config.data_source == "keras" else config.normaliser
    try:
        parts = _merged(config, [each.statistics for each in described.values() if each.statistics])
        found = [each.labels for each in described.values() if each.labels is not None]
        if found and len(found) < len(described):
            raise UserError("the targets of some clients are classes, and those of others numbers")
        merged = labels.merge(*found, outputs=model.outputs) if found else None
        if merged and model.outputs and len(merged) > max(model.outputs, 2):
            raise UserError(f"there are {len(merged)} classes, and the model has {model.outputs} outputs")
        if name != "none" and not parts:
            raise ValueError("no client sent statistics of its data")
        total = functools.reduce(statistics.merge, parts) if parts else None
        folds = ()
        if len(parts) > 1:  # a fold's training rows are all parts but the one that it holds out
            others = [[part for part in parts if part is not held_out] for held_out in parts]
            folds = tuple(normaliser_from(functools.reduce(statistics.merge, left), name) for left in others)
        return Settlement(normaliser_from(total, name), merged, folds)
    except (UserError, ValueError) as error:
        raise RunFailed(f"the clients' data do not fit together: {error}") from error


def check_test(test: Mapping[str, np.ndarray], agreed: Settlement) -> None:
    """Raise RunFailed if the test set has a label that no client has."""
    if agreed.labels and "y" in test:
        try:
            agreed.labels.encode(np.asarray(test["y"]))
        except UserError as error:
            raise RunFailed(f"Y_test does not fit the clients' labels: {error}") from error


def _each_part(arrays: Mapping[str, np.ndarray]) -> list[Statistics]:
    """Statistics as a client sends them, stacked. Raises ValueError."""
    if len({array.shape[:1] for array in arrays.values()}) > 1 or any(not array.ndim for array in arrays.values()):
        raise ValueError("statistics are arrays of as many rows, a row a part")
    parts = max((len(array) for array in arrays.values()), default=0)
    return [statistics.from_dict({name: array[number] for name, array in arrays.items()}) for number in range(parts)]


def _merged(config: Config, sent: list[list[Statistics]]) -> list[Statistics]:
    """The first part of all clients, the second, and so on. Raises UserError."""
    wanted = config.folds if config.method == "kfold" else 1
    if any(len(parts) != wanted for parts in sent):
        raise UserError(f"a client sent statistics of other than {wanted} parts of its rows")
    return [functools.reduce(statistics.merge, parts) for parts in zip(*sent, strict=True)]
