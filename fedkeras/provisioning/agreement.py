"""What clients say of their data before they train, and what is made of it for all of them.

Each client describes its data, never a row of them: how many rows, statistics of its features, its labels. The server
merges the descriptions in the order of cid. One client that sends nonsense, or describes something else than the
others, has failed; it cannot spoil what the others agree on.
"""

import functools
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from flwr.app import MessageType, RecordDict

from fedkeras.config import Config
from fedkeras.data import columns, labels, statistics
from fedkeras.data.columns import UNNAMED, Columns
from fedkeras.data.labels import Labels
from fedkeras.data.normalise import normaliser_from
from fedkeras.data.statistics import Statistics
from fedkeras.errors import RunFailed, UserError
from fedkeras.federation.dispatcher import ClientRefused
from fedkeras.provisioning.preprocessing import Preprocessing
from fedkeras.provisioning.protocol import arrays_of_answer, value_of

log = logging.getLogger("fedkeras")


@dataclass(frozen=True)
class DataDescription:
    """What a client says of its data: `rows` that are trained on, and their statistics; with k-fold, of each part.

    `statistics` is empty where nothing is scaled, and of so few rows that they would give these away; `normaliser` is
    what they are for ("none": for nothing, or the format decides). `labels` is None where the targets are no classes,
    or come as numbers from 0. `shape` is that of an example as it came. `counts` says how many of the rows have each
    label, where classes are weighted.
    """

    rows: int
    statistics: list[Statistics]
    labels: Labels | None
    columns: Columns = UNNAMED
    shape: tuple[int, ...] = ()
    normaliser: str = "none"
    counts: tuple[int, ...] = ()
    one_hot: bool = False
    """Whether the labels were rows of 0 and 1."""
    held_out: int = 0
    """Rows that are not trained on, the client's own test set."""

    @property
    def examples(self) -> dict[str, int]:
        """How many there are by phase."""
        return {MessageType.TRAIN: self.rows, MessageType.EVALUATE: self.held_out}

    @property
    def kind(self) -> tuple[str, tuple[int, ...] | None, int | None]:
        """What clients' descriptions must have in common to be merged: the second is (parts, features) or (parts,)."""
        shape = (len(self.statistics), *np.shape(self.statistics[0].mean)) if self.statistics else None
        return self.normaliser, shape, len(self.counts) if self.counts and self.labels is None else None


def description_in(answer: RecordDict) -> DataDescription:
    """A client's answer to `describe`. Raises ClientRefused."""
    arrays, classes = arrays_of_answer(answer), value_of(answer, "classes", str)
    rows = value_of(answer, "rows", int)
    try:
        found = labels.from_dict(json.loads(classes)) if classes else None
        parts, counts = _each_part(arrays), tuple(value_of(answer, "counts", list))
        _check_counts(rows, parts, counts, found)
        names, shape = columns.from_dict(json.loads(value_of(answer, "columns", str))), value_of(answer, "shape", list)
        return DataDescription(
            rows,
            parts,
            found,
            names,
            tuple(map(int, shape)),
            value_of(answer, "normaliser", str),
            counts,
            value_of(answer, "one_hot", bool),
            value_of(answer, "held_out", int),
        )
    except (ValueError, AttributeError, RecursionError) as error:
        raise ClientRefused(f"describes its data wrongly: {error}") from error


def of_one_kind(descriptions: Mapping[int, DataDescription]) -> tuple[dict[int, DataDescription], dict[int, str]]:
    """Those descriptions, by cid, that most clients' fit, and why the others do not: one cannot spoil it for all.

    Raises RunFailed where there are as many of one kind as of another.
    """
    kinds = Counter(each.kind for each in descriptions.values())
    if any(shape is not None for _, shape, _ in kinds):  # who sends no statistics fits any shape
        kinds = Counter({kind: count for kind, count in kinds.items() if kind[1] is not None or kind[0] == "none"})
    (usual, most), *others = kinds.most_common()
    if others and others[0][1] == most:
        first, second = (next(cid for cid, one in descriptions.items() if one.kind == kind) for kind in
                         (usual, others[0][0]))  # fmt: skip
        raise RunFailed(
            f"the clients' data do not fit together: client {first} describes {_said(usual)}, and client {second} "
            f"{_said(others[0][0])}"
        )
    good = {cid: one for cid, one in descriptions.items() if _fits(one.kind, usual)}
    odd = {cid: f"describes {_said(one.kind)}, and the others {_said(usual)}" for cid, one in descriptions.items()
           if cid not in good}  # fmt: skip
    return good, odd


def agree(config: Config, descriptions: Mapping[int, DataDescription], outputs: int | None) -> Preprocessing:
    """Merge the clients' descriptions of their data, by cid; `outputs` is the model's number of them, if known.

    Raises RunFailed where they do not fit together.
    """
    name = _name_of_normaliser(config, descriptions)
    try:
        parts = _merged(config, [each.statistics for each in descriptions.values() if each.statistics])
        found = [each.labels for each in descriptions.values() if each.labels is not None]
        if len(found) < len(descriptions) and all(each.one_hot for each in descriptions.values() if each.labels):
            found = []  # a client's rows only look like one class a row: those of others are not
        if found and len(found) < len(descriptions):
            raise UserError("the targets of some clients are classes, and those of others numbers")
        merged = labels.merge(*found, outputs=outputs) if found else None
        if merged and outputs and len(merged) > max(outputs, 2):
            known = labels.shown(merged.names)
            raise UserError(f"there are {len(merged)} classes ({known}), and the model has {outputs} outputs")
        for alike in labels.lookalikes(merged.names if merged else ()):
            log.warning("labels that look alike are classes of their own: %s", ", ".join(map(repr, alike)))
        if name != "none" and not parts:
            raise ValueError(
                "no client sent statistics of its data (none has enough training examples that they would not give "
                "these away): take --normaliser none, or fewer clients"
            )
        total = functools.reduce(statistics.merge, parts) if parts else None
        folds = ()
        if len(parts) > 1:  # a fold's training rows are all parts but the one that it holds out
            others = [[part for part in parts if part is not held_out] for held_out in parts]
            folds = tuple(normaliser_from(functools.reduce(statistics.merge, left), name) for left in others)
        weights = _balanced(descriptions, merged) if config.class_weight == "balanced" else None
        return Preprocessing(normaliser_from(total, name), merged, folds, class_weights=weights)
    except (UserError, ValueError) as error:
        raise RunFailed(f"the clients' data do not fit together: {error}") from error


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


def _name_of_normaliser(config: Config, descriptions: Mapping[int, DataDescription]) -> str:
    """Of tables what the flag says; of a data set what its clients say, since `default` depends on its source."""
    if not config.uses_catalogue:
        return "none" if config.normaliser == "default" else config.normaliser
    return next(iter(descriptions.values())).normaliser


def _check_counts(rows: int, parts: Sequence[Statistics], counts: Sequence[int], found: Labels | None) -> None:
    """Raise ValueError for statistics and label counts that cannot be of so many rows."""
    if len({np.shape(part.mean) for part in parts}) > 1:
        raise ValueError("statistics of parts must be of the same features")
    if parts and (not rows or sum(part.count for part in parts) % rows):
        raise ValueError(f"statistics of {sum(part.count for part in parts)} numbers are not of {rows} rows")
    if any(type(count) is not int or count < 0 for count in counts) or (counts and sum(counts) != rows):
        raise ValueError(f"label counts are whole numbers, 0 or more, and together the {rows} rows")
    if counts and found is not None and len(counts) != len(found):
        raise ValueError(f"there are {len(counts)} label counts and {len(found)} labels")


def _balanced(descriptions: Mapping[int, DataDescription], merged: Labels | None) -> tuple[float, ...]:
    """Each class's weight by all clients' label counts together. Raises UserError where there are no classes."""
    size = max(len(merged) if merged else 0, *(len(each.counts) for each in descriptions.values()))
    total = [0] * size
    for each in descriptions.values():
        if not each.counts:
            raise UserError("--class-weight balanced needs targets that are classes, one a row; leave it out")
        places = range(len(each.counts)) if merged is None else map(merged.names.index, each.labels.names)
        for place, count in zip(places, each.counts, strict=True):
            total[place] += count
    return labels.balanced_weights(total)


def _fits(kind: tuple[str, tuple[int, ...] | None, int | None], usual: tuple) -> bool:
    name, shape, classes = kind
    return (name, classes) == (usual[0], usual[2]) and (shape is None or usual[1] is None or shape == usual[1])


def _said(kind: tuple[str, tuple[int, ...] | None, int | None]) -> str:
    name, shape, classes = kind
    parts = f" of {shape[0]} parts" if shape and shape[0] > 1 else ""
    features = "" if not shape else f" of {shape[1]} features" if len(shape) > 1 else " of all numbers together"
    scaling = "data that nothing is fitted for" if name == "none" else f"statistics{features}{parts} for {name}"
    return scaling + (f" and {classes} classes" if classes else "")
