"""Tables of examples and targets: folders of .npz, .csv, .xlsx and .parquet files, as one array each, on disk mostly.

    dataset/X    examples: numbers, (rows, columns), or (rows, ...) from an .npz file
    dataset/Y    targets: labels (integers or words), one-hot rows, or numbers to predict

The files of a folder are concatenated in the order of their names, in which numbers count as numbers (part_2 comes
before part_10); columns go by their names, in the order of the first file that has names. Rows of X and Y belong
together by position. A folder with one uncompressed .npz file is memory-mapped where it lies; anything else is
converted once into the cache (`fedkeras.data.cache`) and memory-mapped from there.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedkeras.data.cache import cached_rows, fingerprint, narrowed, rows_in_a_block
from fedkeras.data.columns import differing, order_of
from fedkeras.data.readers.csv_table import open_csv
from fedkeras.data.readers.npz_table import open_npz
from fedkeras.data.readers.numerals import Marks
from fedkeras.data.readers.parquet_table import open_parquet
from fedkeras.data.readers.table_file import Note, TableFile
from fedkeras.data.readers.weight_column import taken_out
from fedkeras.data.readers.xlsx_table import open_xlsx
from fedkeras.data.sample_weights import IGNORED, USUAL
from fedkeras.errors import UserError

READERS = {".npz": open_npz, ".csv": open_csv, ".xlsx": open_xlsx, ".parquet": open_parquet}
FORMAT = 3
"""To be raised when the same files come out as another array, so that the cache is made anew."""


A_ROW = Note("header", "a first line of 0, 1, 2, ... is a row and no header: with it X and Y have as many rows")


@dataclass(frozen=True)
class Table:
    """All rows of a folder's files, (n, ...), read-only. `names` are those of its columns, None where no file has any.

    `notes` say what was decided about its files, by name ("decimal mark"), to be said once. `weights` are what the rows
    weigh, float64 (n,); None where nothing says so.
    """

    rows: np.ndarray
    names: tuple[str, ...] | None
    notes: Mapping[str, str]
    weights: np.ndarray | None = None


def read_xy(
    folder_x: str | Path, folder_y: str | Path | None = None, marks: Marks = Marks(),  # noqa: B008 - it is frozen
    *, weights: str = IGNORED, weighed: bool = True,
) -> tuple[Table, Table | None]:  # fmt: skip
    """Examples and their targets; without `folder_y` there are none (an autoencoder needs none).

    x is uint8, float32 or float64 (a single .npz also int32, int64); float64 only where float32 would lose digits:
    normalise first, then convert. y is integers or text (n,), or numbers (n,) or (n, ...). `marks` are those of numbers
    in text, where they are known. `weights` is the column of X, or an array beside it, that weighs the rows
    (`weight_column.taken_out`); unless they are to be `weighed`, as those of a test set are not, it is taken out where
    it is there. Raises UserError.
    """
    x = _open_all(folder_x, False, marks)
    if folder_y is None:
        x, own = taken_out(x, weights, weighed)
        return _weighed(_read(x, False, marks, weights)[0], own, weights), None
    y = _open_all(folder_y, True, marks)
    x, y = _with_headers(x, y, marks)
    x, own = taken_out(x, weights, weighed)
    (table_x, counts_x), (table_y, counts_y) = _read(x, False, marks, weights), _read(y, True, marks)
    if len(x) == len(y) > 1:
        for file_x, file_y, rows_x, rows_y in zip(x, y, counts_x, counts_y, strict=True):
            if rows_x != rows_y:
                raise UserError(
                    f"{file_x.path} has {rows_x} rows and {file_y.path} has {rows_y}: with as many files in X as in Y, "
                    "they belong together in the order of their names"
                )
    if sum(counts_x) != sum(counts_y):
        raise UserError(
            f"{folder_x} has {sum(counts_x)} rows and {folder_y} has {sum(counts_y)}; they must be as many "
            f"({_counted(x, counts_x)}; {_counted(y, counts_y)})"
        )
    return _weighed(table_x, own, weights), table_y


def _weighed(table: Table, own: np.ndarray | None, asked: str) -> Table:
    """The table with what its rows weigh, and a note of it."""
    if own is None:
        return table
    note = {"sample weights": f"'{asked or USUAL}' weighs the rows of X, and is no feature"}
    return dataclasses.replace(table, weights=own, notes={**table.notes, **note})


def read_table(
    folder: str | Path, targets: bool = False, marks: Marks = Marks()  # noqa: B008 - it is frozen
) -> Table:  # fmt: skip
    """All rows of a folder's files, memory-mapped where possible. Raises UserError naming file and place.

    What is there is checked: each file has the same columns, each number is finite.
    """
    return _read(_open_all(folder, targets, marks), targets, marks)[0]


def read_examples(path: Path, marks: Marks) -> Table:
    """All columns of one file, which are examples and have no targets. Raises UserError."""
    if path.suffix.lower() not in READERS or not path.is_file():
        raise UserError(f"{path} is no file of examples; give one that ends in {', '.join(READERS)}")
    return _read([_open(path, False, marks)], False, marks)[0]


def check_same_columns(
    folder: str | Path, other: str | Path, targets: bool = False, marks: Marks = Marks(),  # noqa: B008 - it is frozen
    weights: str = IGNORED,
) -> None:  # fmt: skip
    """Raise UserError unless the files of both folders have the same columns, in any order where they have names.

    The column `weights` does not count.
    """
    both = (taken_out(_open_all(each, targets, marks), weights, required=False)[0] for each in (folder, other))
    _check_alike([file for files in both for file in files])


def rows(array: np.ndarray, indices: np.ndarray) -> Iterator[np.ndarray]:
    """The rows at `indices`, as blocks of some megabytes in memory: a part is never copied whole."""
    step = rows_in_a_block(array.shape[1:], array.dtype)
    for start in range(0, len(indices), step):
        yield np.ascontiguousarray(array[indices[start : start + step]])


def _read(files: list[TableFile], targets: bool, marks: Marks, without: str = IGNORED) -> tuple[Table, list[int]]:
    """The table, and how many rows each file has; `without` is the column that was taken out."""
    _check_alike(files)
    names = next((file.names for file in files if file.names), None)
    notes = _notes(files, names)
    if len(files) == 1 and files[0].mapped is not None:
        for _ in files[0].blocks():
            pass  # reading them is checking them
        return Table(files[0].mapped, names, notes), [len(files[0].mapped)]
    dtype = _common(files, targets)
    counts = [0] * len(files)

    def blocks() -> Iterator[np.ndarray]:
        for number, file in enumerate(files):
            order = order_of(file.names, names)
            counts[number] = 0
            for block in file.blocks():
                counts[number] += len(block)
                ordered = block if order is None else block[:, order]
                yield np.ascontiguousarray(ordered, dtype)

    if dtype.kind == "U" or all(file.row_shape == () for file in files):  # one word or number a row
        whole = np.concatenate(list(blocks()))
        return Table(whole if dtype.kind == "U" else narrowed(whole), names, notes), counts
    headers = [file.header for file in files]
    left_out = [] if without == IGNORED else [without, [file.row_shape for file in files]]
    key = fingerprint([file.path for file in files], FORMAT, targets, marks, headers, *left_out)
    kept = cached_rows("tables", key, blocks, lambda: np.array(counts))
    if kept is None:
        return Table(narrowed(np.concatenate(list(blocks()))), names, notes), counts
    return Table(kept[0], names, notes), kept[1].tolist()


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


def _open_all(folder: str | Path, targets: bool, marks: Marks) -> list[TableFile]:
    return [_open(path, targets, marks) for path in _files(Path(folder))]


def _open(path: Path, targets: bool, marks: Marks, header: bool | None = None) -> TableFile:
    try:
        return READERS[path.suffix.lower()](path, targets, marks, header)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None


def _with_headers(x: list[TableFile], y: list[TableFile], marks: Marks) -> tuple[list[TableFile], list[TableFile]]:
    """The files with first lines such as 0,1,2 read as rows where the numbers of rows in X and in Y show that they are.

    Where the numbers are the same either way, they are headers. Files belong together where they are as many.
    """
    if not any(file.doubtful for file in (*x, *y)):
        return x, y
    x, y = list(x), list(y)
    together = [([i], [i]) for i in range(len(x))] if len(x) == len(y) else [([*range(len(x))], [*range(len(y))])]
    for of_x, of_y in together:
        more = sum(y[i].count() for i in of_y) - sum(x[i].count() for i in of_x)
        files, chosen, targets = (x, of_x, False) if more > 0 else (y, of_y, True)
        doubtful = [i for i in chosen if files[i].doubtful]
        if more and abs(more) == len(doubtful):
            for i in doubtful:
                row = _open(files[i].path, targets, marks, header=False)
                files[i] = dataclasses.replace(row, notes=(*row.notes, A_ROW))
    return x, y


def _check_alike(files: Sequence[TableFile]) -> None:
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
        if file.names and (own := differing(file.names, named.names)):
            raise UserError(f"{file.path} has {own[0]} where {named.path} has {own[1]}")


def _notes(files: Sequence[TableFile], names: tuple[str, ...] | None) -> dict[str, str]:
    """What was decided, and of which files: one text a name."""
    texts: dict[Note, list[Path]] = {}
    for file in files:
        own = list(file.notes)
        if file.names and file.names != names:
            own.append(Note("column order", "by their names, as in the first file"))
        if names and not file.names and len(file.row_shape) == 1 and file.row_shape[0] > 1:
            own.append(Note("columns without names", "taken in the order of the files with names"))
        for note in own:
            texts.setdefault(note, []).append(file.path)
    said: dict[str, list[str]] = {}
    for note, paths in texts.items():
        shown = ", ".join(f"{path.parent.name}/{path.name}" for path in paths[:3])
        more = f" and {len(paths) - 3} other files" if len(paths) > 3 else ""
        said.setdefault(note.name, []).append(f"{note.text} ({shown}{more})")
    return {name: "; ".join(found) for name, found in said.items()}


def merged_notes(tables: Iterable[Table | None]) -> dict[str, str]:
    """The notes of several tables, one text a name."""
    said: dict[str, list[str]] = {}
    for table in tables:
        for name, text in (table.notes if table else {}).items():
            said.setdefault(name, []).append(text)
    return {name: "; ".join(dict.fromkeys(texts)) for name, texts in said.items()}


def _width(shape: tuple[int, ...]) -> str:
    if len(shape) > 1:
        return f"rows of shape {shape}"
    columns = shape[0] if shape else 1
    return f"{columns} column{'s' if columns > 1 else ''}"


def _common(files: Sequence[TableFile], targets: bool) -> np.dtype:
    """One dtype for all files: bytes stay bytes, text text; a column of whole numbers int64; all else float64."""
    if files[0].is_text or all(file.dtype == np.uint8 for file in files):
        return np.result_type(*(file.dtype for file in files))
    if targets and all(file.dtype.kind in "iu" for file in files):
        return np.dtype(np.int64)
    return np.dtype(np.float32 if all(file.dtype == np.float32 for file in files) else np.float64)


def _counted(files: Sequence[TableFile], counts: Sequence[int]) -> str:
    """Rows of each file, and what was taken for a header: where the first row of labels is lost, that is the reason."""
    said = []
    for file, count in zip(files, counts, strict=True):
        header = f", with '{file.first}' as its header" if file.header and file.first else ""
        header = header or (f", no header above '{file.first}'" if file.first else "")
        said.append(f"{file.path.name}: {count}{header}")
    return ", ".join(said)
