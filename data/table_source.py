"""Your own table in one file, a row an example: some columns are learned from, one is learned.

A fifth of the rows, of each class in proportion, is the central test set: the same rows for every seed.
"""

from pathlib import Path

import numpy as np

from fedkeras import stratified
from fedkeras.config import Config
from fedkeras.data.columns import names_in
from fedkeras.data.readers.labelled_table import Chosen, read_labelled
from fedkeras.data.readers.numerals import Marks
from fedkeras.data.source import ArraySource
from fedkeras.data.targets import Targets, targets_of
from fedkeras.errors import UserError
from fedkeras.randomness import generator

TEST_SHARE = 0.2


def load(config: Config) -> ArraySource:
    """The file that --dataset names. Raises UserError for one that is not what it should be.

    Values are z-scored by default, column by column; labels are what `targets.targets_of` says.
    """
    path = path_of(config)
    asked = Chosen(
        config.label_column,
        names_in(config.feature_columns, "feature-columns"),
        config.sample_weight,
        Marks(config.decimal, config.thousands),
    )
    table = read_labelled(path, asked)
    found = targets_of(table.y, config.task, f"the labels '{table.label}' in {path}")
    train, test = held_out(len(table.y), found, path)
    return ArraySource(
        path.stem,
        (table.x[train], found.positions[train]),
        (table.x[test], found.positions[test]),
        found.names,
        provenance=f"the user's own file {path}",
        default_normaliser="zscore",
        sample_weight=None if table.weights is None else table.weights[train],
        targets=None if found.numbers is None else (found.numbers[train], found.numbers[test]),
        columns=table.names,
        notes=found.alike,
        chosen={**table.notes, **said_of(found), "central test set": said_of_test(len(test), found)},
    )


def path_of(config: Config) -> Path:
    """Where --dataset says the file is: taken from --data-dir if it is relative and that is set."""
    return (Path(config.data_dir) / config.dataset if config.data_dir else Path(config.dataset)).expanduser()


def held_out(rows: int, found: Targets, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the training rows and of those of the central test set, sorted. Raises UserError for a single row."""
    if rows < 2:
        raise UserError(f"{path} has one row: it can be trained on or tested on, and not both")
    # seed 0 and not the config's: figures of different seeds are measured on the same rows
    rng = generator(0, "central test", rows)
    test = stratified.sample(rows, stratified.size(rows, TEST_SHARE), rng, found.positions)
    return np.setdiff1d(np.arange(rows), test), test


def said_of(found: Targets) -> dict[str, str]:
    """What was decided about the labels, where no flag says it."""
    return {"labels": found.said} if found.said else {}


def said_of_test(test: int, found: Targets) -> str:
    """Which rows are not dealt out."""
    each = "each class" if found.numbers is None else "each part of the amounts"
    return f"{test} of the {len(found.positions)} rows, drawn from {each} in proportion, the same for every seed"
