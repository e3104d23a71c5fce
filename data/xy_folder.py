"""Your own folder with examples in X and what is to be learned in Y, in files of any format (`readers.tables`).

X_test and Y_test beside them are the central test set; without them a fifth of the rows is.
"""

from pathlib import Path

import numpy as np

from fedkeras.config import Config
from fedkeras.data.columns import Names, names_in, order_of
from fedkeras.data.own_file import part_of_test, parts_of, path_of, said_of
from fedkeras.data.readers.numerals import Marks
from fedkeras.data.readers.tables import Table, check_same_columns, merged_notes, read_xy
from fedkeras.data.source import ArraySource
from fedkeras.data.targets import targets_of
from fedkeras.errors import UserError


def load(config: Config) -> ArraySource:
    """The folder that --dataset names. Raises UserError for one that is not what it should be."""
    folder, marks = path_of(config), Marks(config.decimal, config.thousands)
    if config.label_column and config.deals:
        raise UserError(f"--label-column is for a table in one file; in {folder} what is learned lies in Y")
    x, y = read_xy(folder / "X", folder / "Y", marks, weights=config.sample_weight)
    wanted = names_in(config.feature_columns, "feature-columns")
    examples, names = _columns(x, wanted, folder)
    labels, weights, tests = y.rows, x.weights, 0
    if (folder / "X_test").is_dir():
        for side in "XY":
            check_same_columns(folder / side, folder / f"{side}_test", side == "Y", marks, config.sample_weight)
        x_test, y_test = read_xy(
            folder / "X_test", folder / "Y_test", marks, weights=config.sample_weight, weighed=False
        )
        tests = len(x_test.rows)
        examples = np.concatenate([examples, _columns(x_test, names, folder)[0]])
        labels = np.concatenate([y.rows, y_test.rows])
        weights = None if weights is None else np.concatenate([weights, np.ones(tests)])
    known = names_in(config.classes, "classes")
    found = targets_of(labels, config.task, f"the labels in {folder / 'Y'}", known)
    train, test = part_of_test(config, len(x.rows), len(labels)) if tests else parts_of(config, found, folder)
    is_bytes = examples.dtype == np.uint8
    return ArraySource(
        folder.resolve().name,
        (examples, found.positions[train]),
        (examples, found.positions[test]),
        found.names,
        rows=(train, test),
        provenance=f"the user's own folder {folder}",
        input_shape=(*examples.shape[1:], 1) if examples.ndim == 3 and is_bytes else None,
        default_normaliser="scale" if is_bytes else "zscore",
        known_range=(0.0, 255.0) if is_bytes else None,
        sample_weight=None if weights is None else weights[train],
        targets=None if found.numbers is None else (found.numbers[train], found.numbers[test]),
        columns=names,
        held_out=np.arange(len(x.rows), len(labels)) if tests else None,
        chosen={**merged_notes((x, y)), **said_of(config, found, len(test), drawn=not tests)},
    )


def _columns(table: Table, wanted: Names, folder: Path) -> tuple[np.ndarray, Names]:
    """The columns of these names in their order, and their names; all of a table without names, or if none is asked."""
    if not wanted or (table.names is None and table.rows.shape[1:] == (len(wanted),)):
        return table.rows, table.names or ()
    names = table.names or ()
    if odd := next((name for name in wanted if name not in names), None):
        raise UserError(f"--feature-columns: X in {folder} has no column '{odd}'")
    order = order_of(names, wanted)
    return table.rows if order is None else table.rows[:, order], wanted
