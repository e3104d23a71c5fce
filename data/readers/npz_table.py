"""A table in an .npz file: mapped where it lies if it is stored uncompressed, else read block by block.

An .npz file is a zip archive of .npy files. `np.load` reads a member whole; here a gigabyte is never in memory.
"""

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fedkeras.data.cache import rows_in_a_block, slices
from fedkeras.data.labels import EXACT
from fedkeras.data.readers.file_kind import check_kind
from fedkeras.data.readers.numerals import Marks
from fedkeras.data.readers.table_file import TableFile, check_finite, check_names, labels_of
from fedkeras.errors import UserError

MAPPED = ("uint8", "float32", "float64", "int32", "int64")
"""What can be used as it is in the file; other numbers are converted once."""

COLUMNS = ("columns", "feature_names")
"""Names of an array of text beside the table: the names of its columns."""

_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError, NotImplementedError, RuntimeError)


def open_npz(path: Path, targets: bool, marks: Marks, header: bool | None = None) -> TableFile:
    """The array of the file: the only one, else the one called `x` or `x_train` (for targets: `y` or `y_train`).

    X is numbers (n, ...); targets are numbers (n,) or (n, ...), or text (n,). A text array called `columns` beside it
    names its columns. `marks` and `header` are for text files. Raises UserError.
    """
    check_kind(path, "zip")
    try:
        with zipfile.ZipFile(path) as archive:
            member = _choose(path, archive, "y" if targets else "x")
            with archive.open(member) as stream:
                shape, fortran, dtype = _npy_header(stream)
            mapped = _mapped(path, member) if member.compress_type == zipfile.ZIP_STORED else None
        names = _names(path, shape)
    except _DAMAGED as error:
        raise UserError(f"{path} is damaged, or no .npz file of plain arrays ({error})") from None
    _check(path, shape, dtype, targets)
    if mapped is not None and (str(mapped.dtype) not in MAPPED or not mapped.flags.c_contiguous):
        mapped = None
    row_shape = () if targets and shape[1:] == (1,) else shape[1:]
    if targets and row_shape == ():
        return _one_column(path, member.filename, shape, fortran, dtype)
    kept = np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")

    def blocks() -> Iterator[np.ndarray]:
        try:
            start = 0
            for block in _read(path, member.filename, shape, fortran, dtype):
                block = block.astype(kept, copy=False).reshape(-1, *row_shape)
                yield check_finite(path, block, start, _where)
                start += len(block)
        except _DAMAGED as error:
            raise UserError(f"{path} is damaged ({error})") from None

    whole = None if mapped is None else mapped.reshape(len(mapped), *row_shape)
    return TableFile(path, row_shape, kept, blocks, lambda: shape[0], names, mapped=whole)


def _one_column(path: Path, name: str, shape: tuple, fortran: bool, dtype: np.dtype) -> TableFile:
    """Targets of one column, read whole, as those of a text file are: 1, 1.0, true and "1" are the same label."""
    try:
        array = np.concatenate(list(_read(path, name, shape, fortran, dtype))).reshape(-1)
    except _DAMAGED as error:
        raise UserError(f"{path} is damaged ({error})") from None
    if dtype.kind == "U":
        array = labels_of(path, array.tolist(), lambda i: f"row {i} (counted from 0)")
    elif dtype.kind == "f":
        check_finite(path, array, 0, lambda row, _: f"row {row} (counted from 0)")
        if (array == np.rint(array)).all() and (np.abs(array) < EXACT).all():
            array = array.astype(np.int64)
    elif dtype == np.uint64 and array.max() >= 2**63:
        raise UserError(f"{path} has the label {array.max()}; labels are whole numbers below 2^63, or words")
    else:
        array = array.astype(np.int64)
    return TableFile(path, (), array.dtype, lambda: iter([array]), lambda: len(array))


def _choose(path: Path, archive: zipfile.ZipFile, letter: str) -> zipfile.ZipInfo:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    members = {name: info for name, info in members.items() if name not in COLUMNS} or members
    if len(members) == 1:
        return next(iter(members.values()))
    for wanted in (letter, f"{letter}_train"):
        for name, info in members.items():
            if name.lower() == wanted:
                return info
    held = ", ".join(members) or "nothing"
    raise UserError(f"{path} holds {held}; it must hold one array, or one called '{letter}' or '{letter}_train'")


def _names(path: Path, shape: tuple[int, ...]) -> tuple[str, ...] | None:
    """The names in the array that is called `columns`. Raises UserError where they are not one a column."""
    with np.load(path, allow_pickle=False) as file:
        name = next((name for name in COLUMNS if name in file.files), None)
        if name is None or len(file.files) < 2:
            return None
        names = file[name]
    if names.dtype.kind != "U" or names.shape != shape[1:]:
        raise UserError(f"{path}: '{name}' must name {' x '.join(map(str, shape[1:]))} columns, and has {names.shape}")
    return check_names(path, names.tolist())


def _check(path: Path, shape: tuple[int, ...], dtype: np.dtype, targets: bool) -> None:
    if not shape or not shape[0]:
        raise UserError(f"{path} is empty: its array has no rows")
    if dtype.kind == "U" and targets:
        if shape[1:] not in ((), (1,)):
            raise UserError(f"{path}: text labels must be one a row, and the array has shape {shape}")
    elif dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise UserError(f"{path}: its array holds {dtype}, not numbers{' or text' if targets else ''}")
    if len(shape) < 2 and not targets:
        raise UserError(f"{path}: examples must be numbers of shape (rows, ...), and the array has shape {shape}")
    if 0 in shape:
        raise UserError(f"{path} is empty: its array has shape {shape}")


def _npy_header(stream: object) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    return shape, fortran, dtype


def _mapped(path: Path, member: zipfile.ZipInfo) -> np.ndarray:
    """The member as a memory-mapped array. Where its bytes begin is written in the archive's local header."""
    if member.flag_bits & 1:
        raise ValueError("it is encrypted")
    with path.open("rb") as file:
        file.seek(member.header_offset)
        local = file.read(30)
        name, extra = (int.from_bytes(local[at : at + 2], "little") for at in (26, 28))
        file.seek(member.header_offset + 30 + name + extra)
        begin = file.tell()
        shape, fortran, dtype = _npy_header(file)
        offset = file.tell()
        if offset - begin + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize != member.file_size:
            raise ValueError("its array has another size than it says")
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")


def _read(path: Path, name: str, shape: tuple, fortran: bool, dtype: np.dtype) -> Iterator[np.ndarray]:
    """Blocks of rows, read and not mapped: pages of a map would count as this process's memory. The CRC is checked."""
    with zipfile.ZipFile(path) as archive:
        if fortran:  # its rows do not lie together
            with np.load(path, allow_pickle=False) as file:
                yield from slices(np.ascontiguousarray(file[name.removesuffix(".npy")]))
            return
        with archive.open(name) as stream:
            _npy_header(stream)
            step = rows_in_a_block(shape[1:], dtype)
            for start in range(0, shape[0], step):
                rows = min(step, shape[0] - start)
                size = rows * int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
                data = stream.read(size)
                if len(data) != size:
                    raise EOFError("it ends too early")
                yield np.frombuffer(data, dtype).reshape(rows, *shape[1:])
            if stream.read(1):
                raise ValueError("its array has another size than it says")


def _where(row: int, column: int) -> str:
    return f"row {row}, number {column} in it (counted from 0)"
