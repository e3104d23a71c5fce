"""The weights of a table's rows: a column that is taken out of X, or an array of their own beside it in an .npz."""

import dataclasses
import zipfile
from collections.abc import Iterator, Sequence

import numpy as np

from fedkeras.data.readers.table_file import TableFile
from fedkeras.data.sample_weights import IGNORED, USUAL, checked
from fedkeras.errors import UserError


def taken_out(
    files: Sequence[TableFile], asked: str, required: bool = True
) -> tuple[list[TableFile], np.ndarray | None]:
    """The files of X without their weights, and the weights of all rows, float64 (n,); None where there are none.

    `asked` is --sample-weight: a name; "" for an array that is called sample_weight, if there is one; "none" for no
    weights. Unless `required` (a test set need not have any), nothing is read. Raises UserError where some files have
    weights and others none, for what are no weights, and for a column that may or may not be meant as weights.
    """
    if asked == IGNORED:
        return list(files), None
    name, named = asked or USUAL, next((file.names for file in files if file.names), None)
    arrays = [_has_array(file, name) for file in files]
    columns = [None if array else _column(file, named, name) for file, array in zip(files, arrays, strict=True)]
    found = [array or column is not None for array, column in zip(arrays, columns, strict=True)]
    if not asked and any(column is not None for column in columns):
        file = next(file for file, column in zip(files, columns, strict=True) if column is not None)
        raise UserError(
            f"{file.path} has a column '{USUAL}': give --sample-weight {USUAL} to weigh the rows by it, or "
            f"--sample-weight {IGNORED} to keep it among the features"
        )
    if not any(found) and not (asked and required):
        return list(files), None
    if not all(found):
        file = next(file for file, own in zip(files, found, strict=True) if not own)
        known = f"; its columns are {', '.join(file.names[:8])}" if file.names else "; its columns have no names"
        raise UserError(f"--sample-weight {name}: {file.path} has no column or array of this name{known}")
    without = [_without(file, column) for file, column in zip(files, columns, strict=True)]
    if not required:
        return without, None
    parts = [_weights(file, column, name) for file, column in zip(files, columns, strict=True)]
    weights = np.concatenate(parts)
    return without, checked(weights, len(weights), f"the weights '{name}' in {files[0].path.parent}")


def _has_array(file: TableFile, name: str) -> bool:
    if file.path.suffix.lower() != ".npz":
        return False
    with zipfile.ZipFile(file.path) as archive:
        held = [member.removesuffix(".npy") for member in archive.namelist()]
    return len(held) > 1 and name in held


def _column(file: TableFile, named: tuple[str, ...] | None, name: str) -> int | None:
    """Its position; a file without names has the columns of those with names."""
    names = file.names or (named if named and file.row_shape == (len(named),) else None)
    if not names or names.count(name) != 1:
        return None
    if len(names) == 1:
        raise UserError(f"{file.path} has one column, '{name}': without it there is nothing to learn from")
    return names.index(name)


def _without(file: TableFile, column: int | None) -> TableFile:
    """The file without this column; with an array of weights beside, as it is."""
    if column is None:
        return file
    left = [place for place in range(file.row_shape[0]) if place != column]

    def blocks() -> Iterator[np.ndarray]:
        return (np.ascontiguousarray(block[:, left]) for block in file.blocks())

    names = file.names and tuple(file.names[place] for place in left)
    return dataclasses.replace(file, row_shape=(len(left),), names=names, mapped=None, blocks=blocks)


def _weights(file: TableFile, column: int | None, name: str) -> np.ndarray:
    if column is not None:
        return np.concatenate([np.asarray(block[:, column], np.float64) for block in file.blocks()])
    try:
        with np.load(file.path, allow_pickle=False) as content:
            array = content[name]
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise UserError(f"{file.path} is damaged, or no .npz file of plain arrays ({error})") from None
    rows = file.count()
    if array.dtype.kind not in "biuf" or array.shape not in ((rows,), (rows, 1)):
        what = f"is {array.dtype} of shape {array.shape}"
        raise UserError(f"{file.path}: '{name}' must be one number for each of {rows} rows, and {what}")
    return array.reshape(rows).astype(np.float64)
