"""What the pages that read somebody's own file have in common: where it is, its test rows, and what is said of it."""

from pathlib import Path

import numpy as np

from fedkeras import stratified
from fedkeras.config import Config
from fedkeras.data.targets import Targets
from fedkeras.errors import UserError
from fedkeras.randomness import generator

TEST_SHARE = 0.2
"""Of a file that does not say which rows are for testing: of each class in proportion, the same for every seed."""


def path_of(config: Config) -> Path:
    """Where --dataset says the file is: taken from --data-dir if it is relative and that is set."""
    return (Path(config.data_dir) / config.dataset if config.data_dir else Path(config.dataset)).expanduser()


def parts_of(config: Config, found: Targets, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the training rows and of those of the central test set, sorted.

    Where nothing is dealt out, a file is at the server the central test set, and at a client its part: all of its rows
    are both. Raises UserError for a single row, unless that is so.
    """
    rows = len(found.positions)
    if not config.deals:
        return np.arange(rows), np.arange(rows)
    if rows < 2:
        raise UserError(f"{path} has one example: it can be trained on or tested on, and not both")
    # seed 0 and not the config's: figures of different seeds are measured on the same rows
    rng = generator(0, "central test", rows)
    test = stratified.sample(rows, stratified.size(rows, TEST_SHARE), rng, found.positions)
    return np.setdiff1d(np.arange(rows), test), test


def part_of_test(config: Config, training: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The same of a file that says which of its rows are for testing: those from `training` on.

    Where nothing is dealt out, they are a client's own test set, and so among its rows.
    """
    return np.arange(training if config.deals else rows), np.arange(training, rows)


def said_of(config: Config, found: Targets, test: int, drawn: bool = True) -> dict[str, str]:
    """What was decided about the labels, and which rows are not dealt out where they were `drawn` here."""
    said = {"labels": found.said} if found.said else {}
    if found.alike:
        said["classes"] = "; ".join(found.alike)
    if not config.deals or not drawn:
        return said
    each = "each class" if found.numbers is None else "each part of the amounts"
    rows = f"{test} of the {len(found.positions)} examples, drawn from {each} in proportion, the same for every seed"
    return {**said, "central test set": rows}
