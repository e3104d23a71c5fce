"""Tables of examples and targets: folders of .npz, .csv and .xlsx files, as one array each, on disk where possible.

    dataset/X    examples: numbers, (rows, columns), or (rows, ...) from an .npz file
    dataset/Y    targets: labels (integers or words), one-hot rows, or numbers to predict

The files of a folder are concatenated in the order of their names, in which numbers count as numbers (part_2 comes
before part_10). Rows of X and Y belong together by position. A folder with one uncompressed .npz file is memory-mapped
where it lies; anything else is converted once into the cache (`fedkeras.data.cache`) and memory-mapped from there.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fedkeras.data.cache import cached_rows, fingerprint, narrowed, rows_in_a_block
from fedkeras.data.readers.csv_table import open_csv
from fedkeras.data.readers.npz_table import open_npz
from fedkeras.data.readers.table_file import TableFile
from fedkeras.data.readers.xlsx_table import open_xlsx
from fedkeras.errors import UserError

READERS = {".npz": open_npz, ".csv": open_csv, ".xlsx": open_xlsx}
FORMAT = 2
"""To be raised when the same files come out as another array, so that the cache is made anew."""


def read_xy(folder_x: str | Path, folder_y: str | Path | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Examples and their targets, read-only; without `folder_y` there are none (an autoencoder needs none).

    x is uint8, float32 or float64 (a single .npz also int32, int64); float64 only where float32 would lose digits:
    normalise first, then convert. y is integers or text (n,), or numbers (n,) or (n, ...). Raises UserError.
    """
    x = read_table(folder_x)
    if folder_y is None:
        return x, None
    y = read_table(folder_y, targets=True)
    if len(x) != len(y):
        raise UserError(
            f"{folder_x} has {len(x)} rows and {folder_y} has {len(y)}; they must be as many "
            f"({_counted(Path(folder_x), False)}; {_counted(Path(folder_y), True)})"
        )
    return x, y


def read_table(folder: str | Path, targets: bool = False) -> np.ndarray:
    """All rows of a folder's files, (n, ...), memory-mapped where possible. Raises UserError naming file and place.

    What is there is checked: each file has the same columns, each number is finite.
    """
    files = [_open(path, targets) for path in _files(Path(folder))]
    _check_alike(files)
    if len(files) == 1 and files[0].mapped is not None:
        for _ in files[0].blocks():
            pass  # reading them is checking them
        return files[0].mapped
    dtype = _common(files, targets)

    def blocks() -> Iterator[np.ndarray]:
        for file in files:
            for block in file.blocks():
                yield block.astype(dtype, copy=False)

    if dtype.kind == "U" or all(file.row_shape == () for file in files):  # one word or number a row
        return narrowed(np.concatenate(list(blocks())))
    rows = cached_rows("tables", fingerprint([file.path for file in files], FORMAT, targets), blocks)
    return rows if rows is not None else narrowed(np.concatenate(list(blocks())))


def check_same_columns(folder: str | Path, other: str | Path, targets: bool = False) -> None:
    """Raise UserError unless the files of both folders have the same columns, alike in name where they have names."""
    _check_alike([_open(path, targets) for place in (folder, other) for path in _files(Path(place))])


def rows(array: np.ndarray, indices: np.ndarray) -> Iterator[np.ndarray]:
    """The rows at `indices`, as blocks of some megabytes in memory: a part is never copied whole."""
    step = rows_in_a_block(array.shape[1:], array.dtype)
    for start in range(0, len(indices), step):
        yield np.ascontiguousarray(array[indices[start : start + step]])


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; it must hold {', '.join(READERS)} files")
    # hidden files are the system's, and ~$ marks what Excel has open
    files = sorted((path for path in folder.iterdir() if not path.name.startswith((".", "~$"))), key=_order)
    for path in files:
        if not path.is_file() or path.suffix.lower() not in READERS:
            what = "is a folder" if path.is_dir() else "has an unknown ending"
            raise UserError(f"{path} {what}; only {', '.join(READERS)} files may be in {folder}")
        if not path.stat().st_size:
            raise UserError(f"{path} is empty")
    if not files:
        raise UserError(f"{folder} is empty; it must hold {', '.join(READERS)} files")
    return files


def _order(path: Path) -> list[tuple[int, int, str]]:
    words = re.split(r"(\d+)", path.name)
    return [(0, int(word), "") if word.isdecimal() else (1, 0, word) for word in words]


def _open(path: Path, targets: bool) -> TableFile:
    try:
        return READERS[path.suffix.lower()](path, targets)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None


def _check_alike(files: list[TableFile]) -> None:
    first, named = files[0], next((file for file in files if file.names), None)
    for file in files[1:]:
        if file.row_shape != first.row_shape:
            raise UserError(f"{file.path} has {_width(file.row_shape)}, and {first.path} has {_width(first.row_shape)}")
        if file.is_text != first.is_text:
            kinds = ("numbers", "words")
            raise UserError(
                f"{file.path} holds {kinds[file.is_text]}, and {first.path} holds {kinds[first.is_text]}; "
                "labels are all numbers or all words"
            )
        if file.names and file.names != named.names:
            own, other = next(pair for pair in zip(file.names, named.names, strict=True) if pair[0] != pair[1])
            raise UserError(f"{file.path} has a column '{own}' where {named.path} has '{other}'")


def _width(shape: tuple[int, ...]) -> str:
    if len(shape) > 1:
        return f"rows of shape {shape}"
    columns = shape[0] if shape else 1
    return f"{columns} column{'s' if columns > 1 else ''}"


def _common(files: list[TableFile], targets: bool) -> np.dtype:
    """One dtype for all files: bytes stay bytes, text text; a column of whole numbers int64; all else float64."""
    if files[0].is_text or all(file.dtype == np.uint8 for file in files):
        return np.result_type(*(file.dtype for file in files))
    if targets and all(file.dtype.kind in "iu" for file in files):
        return np.dtype(np.int64)
    return np.dtype(np.float32 if all(file.dtype == np.float32 for file in files) else np.float64)


def _counted(folder: Path, targets: bool) -> str:
    """Rows of each file, and what was taken for a header: where the first row of labels is lost, that is the reason."""
    said = []
    for file in (_open(path, targets) for path in _files(folder)):
        count = len(file.mapped) if file.mapped is not None else sum(map(len, file.blocks()))
        header = f", with '{file.first}' as its header" if file.names else ""
        header = header or (f", no header above '{file.first}'" if file.first else "")
        said.append(f"{file.path.name}: {count}{header}")
    return ", ".join(said)
