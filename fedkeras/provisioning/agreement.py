"""What clients say of their data before they train, and what is made of it for all of them.

Each client describes its data, never a row of them: how many rows, statistics of its features, its labels. The server
merges the descriptions in the order of cid. One client that sends nonsense, or describes something else than the
others, has failed; it cannot spoil what the others agree on.
"""

import dataclasses
import functools
import json
import logging
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
from fedkeras.provisioning.client_data import ProvisionedClient
from fedkeras.provisioning.preprocessing import Preprocessing
from fedkeras.provisioning.protocol import arrays_of_answer, reply, value_of

log = logging.getLogger("fedkeras")


Kind = tuple[str, tuple[int, int, int] | None, int | None]
"""(normaliser, (parts, features or 0 for all numbers together, numbers of a row) of statistics, classes counted)."""

MAX_LABELS = 100_000
MAX_COLUMNS = 1_000_000
MAX_WORD = 200
"""More labels or columns, or longer ones, are no words of a table."""


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
    def kind(self) -> Kind:
        """What clients' descriptions must have in common to be merged."""
        shape = None
        if self.statistics:
            per_row = sum(part.count for part in self.statistics) // self.rows
            shape = (len(self.statistics), np.size(self.statistics[0].mean) * np.ndim(self.statistics[0].mean), per_row)
        return self.normaliser, shape, len(self.counts) if self.counts and self.labels is None else None

    def limited(self, rows: int) -> "DataDescription":
        """The same as of so many rows: what counts of a claim, where it counts for less than it says."""
        if rows >= self.rows:
            return self
        share = rows / self.rows
        parts = [
            dataclasses.replace(part, count=max(1, round(part.count * share)), m2=part.m2 * share)
            for part in self.statistics
        ]
        return dataclasses.replace(
            self, rows=rows, statistics=parts, counts=tuple(round(count * share) for count in self.counts)
        )


def described(client: ProvisionedClient, config: Config) -> DataDescription:
    """What there is to say of a client's tables. Raises UserError."""
    train, held_out = client.train_and_test_rows(config)
    found = labels.fit(np.asarray(client.y)) if client.are_classes(config) else None
    counts: list[int] = []
    if config.class_weight != "none" and found is not None:
        counts = np.bincount(found.encode(np.asarray(client.y[train])), minlength=len(found)).tolist()
    fitted = config.normaliser not in ("none", "default")
    return DataDescription(
        rows=len(train),
        statistics=client.statistics(config) if fitted else [],
        labels=found,
        columns=client.columns,
        shape=tuple(int(size) for size in client.x.shape[1:]),
        normaliser=config.normaliser if fitted else "none",
        counts=tuple(counts),
        one_hot=found is not None and client.y.ndim == 2,
        held_out=len(held_out),
    )


def answer_of(description: DataDescription) -> RecordDict:
    """A client's answer to `describe`."""
    return reply(
        stacked(description.statistics),
        rows=description.rows,
        held_out=description.held_out,
        classes=json.dumps(description.labels.to_dict()) if description.labels else "",
        one_hot=description.one_hot,
        normaliser=description.normaliser,
        counts=list(description.counts),
        columns=json.dumps(description.columns.to_dict()),
        shape=list(description.shape),
    )


def stacked(parts: Sequence[Statistics]) -> dict[str, np.ndarray]:
    """Statistics of several parts as they are sent: arrays by name, a row a part; empty for no part."""
    tables = [part.to_dict() for part in parts]
    return {name: np.stack([table[name] for table in tables]) for name in tables[0]} if tables else {}


def description_in(answer: RecordDict) -> DataDescription:
    """A client's answer to `describe`. Raises ClientRefused."""
    arrays, classes = arrays_of_answer(answer), value_of(answer, "classes", str)
    rows = value_of(answer, "rows", int)
    try:
        found = labels.from_dict(json.loads(classes)) if classes else None
        parts, counts = _each_part(arrays), tuple(value_of(answer, "counts", list))
        _check_counts(rows, parts, counts, found)
        names, shape = columns.from_dict(json.loads(value_of(answer, "columns", str))), value_of(answer, "shape", list)
        _check_words(found, names, shape)
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


def agree(
    config: Config,
    descriptions: Mapping[int, DataDescription],
    outputs: int | None,
    rows: Mapping[int, int] | None = None,
) -> Preprocessing:
    """Merge the clients' descriptions of their data, by cid; `outputs` is the model's number of them, if known.

    `rows` are what counts of the rows that they say they have; None: all. Raises RunFailed where they do not fit
    together.
    """
    if rows is not None:
        descriptions = {cid: one.limited(rows[cid]) for cid, one in descriptions.items()}
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


def _check_words(found: Labels | None, names: Columns, shape: Sequence[int]) -> None:
    """Raise ValueError for labels and columns that nobody has, or that are not as many as an example's numbers."""
    words = [*(found.names if found else ()), *(names.x or ()), *(names.y or ())]
    if any(isinstance(word, str) and len(word) > MAX_WORD for word in words):
        raise ValueError(f"a label, or a column's name, has more than {MAX_WORD} characters")
    if (found is not None and len(found) > MAX_LABELS) or len(words) > MAX_COLUMNS:
        raise ValueError("there are more labels or columns than a table has")
    if not all(type(size) is int and size > 0 for size in shape):
        raise ValueError("the shape of an example is none")
    if names.x and len(shape) == 1 and len(names.x) != shape[0]:
        raise ValueError(f"there are {len(names.x)} names of columns, and {shape[0]} columns")


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
