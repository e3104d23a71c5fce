"""Replace a file in one step, so that a reader or a `kill -9` finds the old content or the new, never a part."""

import contextlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from fedkeras.errors import UserError

Buffer = bytes | memoryview


def replace_file(path: Path, content: Buffer | Iterable[Buffer]) -> None:
    """Write `content`, in one piece or several, beside `path`, force it to the disk, and rename it into place.

    Raises UserError if the disk refuses; `path` is then as it was.
    """
    # One fixed name: what a killed process leaves behind is overwritten by the next, not piled up.
    beside = path.with_name(f".{path.name}.tmp")
    pieces = [content] if isinstance(content, Buffer) else content
    try:
        try:
            with beside.open("wb") as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def check_writable(path: Path) -> None:
    """Raise UserError if the disk would refuse the file: to be called before the work whose result it is.

    It tries to write beside `path`: permissions are not the whole truth (root, read-only disks, /proc).
    """
    if path.is_dir():
        raise UserError(f"cannot write {path}: there is a folder of that name")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def sync(path: Path) -> None:
    """Force to the disk what has been written to `path`, by whatever process. Raises OSError."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Force the new name to the disk as well: without it, a power cut may bring the old file back."""
    with contextlib.suppress(OSError):  # Windows opens no folders, and some network disks do not sync them
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
