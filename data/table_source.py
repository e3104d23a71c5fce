"""Your own table in one file, a row an example: some columns are learned from, one is learned.

A fifth of the rows, of each class in proportion, is the central test set: the same rows for every seed.
"""

from fedkeras.config import Config
from fedkeras.data.columns import names_in
from fedkeras.data.own_file import parts_of, path_of, said_of
from fedkeras.data.readers.labelled_table import Chosen, read_labelled
from fedkeras.data.readers.numerals import Marks
from fedkeras.data.source import ArraySource
from fedkeras.data.targets import targets_of


def load(config: Config) -> ArraySource:
    """The file that --dataset names. Raises UserError for one that is not what it should be.

    Values are z-scored by default, column by column; labels are what `targets.targets_of` says.
    """
    path = path_of(config)
    asked = Chosen(
        config.label_column,
        names_in(config.feature_columns, "feature-columns"),
        config.sample_weight,
        config.deals,
        Marks(config.decimal, config.thousands),
    )
    table = read_labelled(path, asked)
    known = names_in(config.classes, "classes")
    found = targets_of(table.y, config.task, f"the labels '{table.label}' in {path}", known)
    train, test = parts_of(config, found, path)
    return ArraySource(
        path.stem,
        (table.x, found.positions[train]),
        (table.x, found.positions[test]),
        found.names,
        rows=(train, test),
        provenance=f"the user's own file {path}",
        default_normaliser="zscore",
        sample_weight=None if table.weights is None else table.weights[train],
        targets=None if found.numbers is None else (found.numbers[train], found.numbers[test]),
        columns=table.names,
        label=table.label,
        chosen={**table.notes, **said_of(config, found, len(test))},
    )
