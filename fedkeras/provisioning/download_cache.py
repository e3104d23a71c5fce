"""The client's cache of what it has received, by digest: model files, and its shards of data as .npy files.

What arrives is written beside its place, checked, and put there by one rename: what is in the cache is whole. So a
second run transfers nothing again, and a transfer that was cut leaves nothing that could be taken for the data.
"""

import contextlib
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fedkeras import atomic
from fedkeras.data import cache
from fedkeras.errors import UserError
from fedkeras.provisioning.shards import SLICE_BYTES, Digest, Tables

LARGEST_SLICE = 8 * SLICE_BYTES

SPARE_BYTES = 16 << 20
"""What must be free beside the data: the model, the results."""


def folder() -> Path:
    """Of all that was received."""
    return cache.folder() / "received"


def model_path(digest: str, suffix: str) -> Path:
    """Where the model file with this digest lies, once it is whole."""
    return folder() / f"model-{digest}{suffix}"


def rows_path(digest: str) -> Path:
    """Where the tables with this digest lie, once they are whole."""
    return folder() / f"rows-{digest}"


def open_rows(digest: str) -> Tables:
    """The tables by name, memory-mapped. Raises UserError if they are damaged."""
    path = rows_path(digest)
    try:
        return {file.stem: np.load(file, mmap_mode="r", allow_pickle=False) for file in sorted(path.glob("*.npy"))}
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"the data received in {path} are damaged ({error}): delete that folder") from error


def require_space(num_bytes: int, most: int) -> None:
    """Raise UserError, before anything is sent, where the disk has no room, or this client gives no more than `most`.

    What was received before counts, whole or not.
    """
    with writing(num_bytes):
        folder().mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder()).free
    if (held := size_of(folder())) + num_bytes > most:
        raise UserError(
            f"the server hands out {num_bytes / 1e6:.1f} MB, and what servers hand out may take {most / 1e6:.0f} MB "
            f"here (--max-download-mb), of which {held / 1e6:.1f} are taken: what lies in {folder()} may be deleted"
        )
    if num_bytes and free < num_bytes + SPARE_BYTES:
        why = f"{free / 1e6:.1f} MB are free, of which {SPARE_BYTES / 1e6:.0f} must stay free"
        raise UserError(_full(num_bytes, why))


def size_of(path: Path) -> int:
    """Bytes of all files below a folder; 0 if there is none."""
    total = 0
    for place, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):  # another process has put it into its place meanwhile
                total += (Path(place) / name).lstat().st_size
    return total


@contextlib.contextmanager
def writing(num_bytes: int) -> Iterator[None]:
    """What the disk refuses becomes one line."""
    try:
        yield
    except OSError as error:
        raise UserError(_full(num_bytes, error.strerror or str(error))) from error


class ModelReceiver:
    """Takes a model file in pieces, in order."""

    def __init__(self, digest: str, suffix: str, num_bytes: int) -> None:
        if num_bytes < 1:
            raise ValueError(f"a model file of {num_bytes} bytes")
        self._digest, self._suffix, self._size, self._got = digest, suffix, num_bytes, 0
        self._seen = hashlib.sha256()
        self._partial = _partial_path(model_path(digest, suffix))

    def add(self, first: int, piece: np.ndarray) -> None:
        """The next piece; with the last one the file is put in its place. Raises UserError, ValueError."""
        if first != self._got or piece.dtype != np.uint8 or first + len(piece) > self._size:
            raise ValueError(f"a piece of the model file does not follow byte {self._got}")
        with writing(self._size):
            with self._partial.open("wb" if first == 0 else "ab") as file:
                file.write(piece.tobytes())
            self._got += len(piece)
            self._seen.update(piece.tobytes())
            if self._got == self._size:
                if self._seen.hexdigest() != self._digest:
                    self.drop()
                    raise ValueError("the model file did not arrive as it was sent (its digest is another)")
                self._partial.replace(model_path(self._digest, self._suffix))

    @property
    def progress(self) -> tuple[int, int]:
        """Bytes that have arrived, and bytes in all."""
        return self._got, self._size

    def drop(self) -> None:
        """Leave nothing behind."""
        self._partial.unlink(missing_ok=True)


class RowsReceiver:
    """Takes tables of stated types and shapes in slices, in order."""

    def __init__(self, digest: str, layout: str, num_bytes: int) -> None:
        self.layout = _read_layout(layout)
        self._digest, self._seen, self._bytes, self._got = digest, Digest(layout), num_bytes, 0
        stated = sum(math.prod(shape) * dtype.itemsize for dtype, shape in self.layout.values())
        if stated != num_bytes:  # the room that was asked for is what is written
            raise ValueError(f"the server's tables have {stated} bytes, and it says {num_bytes}")
        self._rows = next(iter(self.layout.values()))[1][0]
        self._partial = _partial_path(rows_path(digest))
        self._files: dict[str, BinaryIO] = {}

    def add(self, first: int, rows: Tables) -> None:
        """The next rows; with the last ones the tables are put in their place. Raises UserError, ValueError."""
        if first != self._got or rows.keys() != self.layout.keys():
            raise ValueError(f"rows do not follow row {self._got}")
        for name, array in rows.items():
            dtype, shape = self.layout[name]
            if array.dtype != dtype or array.shape[1:] != tuple(shape[1:]) or len(array) + first > shape[0]:
                raise ValueError(f"rows of '{name}' are {array.dtype}{list(array.shape)}, other than was stated")
        try:
            with writing(self._bytes):
                self._write(rows)
                self._got += len(next(iter(rows.values())))
                self._seen.update(rows)
                if self._got == self._rows:
                    self._finish()
        except BaseException:
            self.drop()
            raise

    def check_slice(self, first: int, count: int) -> None:
        """Raise ValueError, before anything is uncompressed, for rows that are not the next, or too many at once."""
        size = count * (self._bytes // self._rows)
        if first != self._got or not 0 < count <= self._rows - first or (count > 1 and size > LARGEST_SLICE):
            raise ValueError(f"{count} rows do not follow row {self._got}")

    @property
    def progress(self) -> tuple[int, int]:
        """Bytes that have arrived, and bytes in all."""
        return self._bytes * self._got // self._rows, self._bytes

    def _write(self, rows: Tables) -> None:
        if not self._files:  # written, and not mapped: on a full disk a map ends the process by a signal
            self._partial.mkdir(parents=True)
            for name, (dtype, shape) in self.layout.items():
                self._files[name] = (self._partial / f"{name}.npy").open("wb")
                descr = np.lib.format.dtype_to_descr(dtype)
                header = {"descr": descr, "fortran_order": False, "shape": tuple(shape)}
                np.lib.format.write_array_header_1_0(self._files[name], header)
        for name, array in rows.items():
            self._files[name].write(array.reshape(-1).view(np.uint8).data)

    def _finish(self) -> None:
        self._close()
        if self._seen.result() != self._digest:
            raise ValueError("the data did not arrive as they were sent (their digest is another)")
        atomic.into_place(self._partial, rows_path(self._digest))

    def _close(self) -> None:
        for file in self._files.values():
            file.close()

    def drop(self) -> None:
        """Leave nothing behind."""
        with contextlib.suppress(OSError):
            self._close()
        shutil.rmtree(self._partial, ignore_errors=True)


LONGEST_LAYOUT = 10_000


def _read_layout(text: str) -> dict[str, tuple[np.dtype, list[int]]]:
    """Names, types and shapes as the server says them. Raises ValueError for what is no table of numbers or text."""
    if len(text) > LONGEST_LAYOUT:
        raise ValueError(f"the server describes its tables in {len(text)} characters")
    try:
        named = json.loads(text).items()
        layout = {name: (np.dtype(dtype), [int(size) for size in shape]) for name, (dtype, shape) in named}
    except (TypeError, AttributeError, RecursionError, SyntaxError) as error:
        raise ValueError("the server's tables are described wrongly") from error
    counts = {shape[0] for _, shape in layout.values()}
    if not {"x"} <= set(layout) <= {"x", "y", "sample_weight"} or len(counts) != 1 or min(counts) < 1:
        raise ValueError("the server's tables are not x, or x and y of as many rows")
    if any(dtype.kind not in "biufU" or min(shape) < 1 for dtype, shape in layout.values()):
        raise ValueError("the server's tables hold neither numbers nor text")
    return layout


def _partial_path(place: Path) -> Path:
    """A name for what is not whole yet; what killed processes have left of the same is removed."""
    atomic.sweep(place.parent, place.name)
    return atomic.partial_path(place)


def _full(num_bytes: int, why: str) -> str:
    return (
        f"{num_bytes / 1e6:.1f} MB cannot be kept in {folder()} ({why}); make room there, or set FEDKERAS_CACHE to a "
        "folder that has it"
    )
