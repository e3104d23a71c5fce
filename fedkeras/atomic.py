"""Files and folders that appear whole: written beside their place, put there by one rename, swept if their writer died.

A reader, or a `kill -9` at any moment, finds the old content or the new, never a part of it.
"""

import contextlib
import errno
import glob
import logging
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from fedkeras.errors import UserError

Buffer = bytes | memoryview
T = TypeVar("T")
log = logging.getLogger("fedkeras")

PATIENCE_SECONDS = 120.0
"""How long a free file descriptor is waited for."""


def patiently(opening: Callable[[], T]) -> T:
    """What `opening()` gives. While the process or the machine may open no more files, wait, and say so once.

    Others close theirs: connections of strangers end within seconds, and a run is not to end for them. Raises OSError
    for anything else, or when PATIENCE_SECONDS are over.
    """
    deadline = None
    while True:
        try:
            return opening()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or (deadline and time.monotonic() > deadline):
                raise
            if deadline is None:
                deadline = time.monotonic() + PATIENCE_SECONDS
                log.warning("%s: waiting up to %g s until a file is closed", error.strerror, PATIENCE_SECONDS)
            time.sleep(0.1)


def replace_file(path: Path, content: Buffer | Iterable[Buffer]) -> None:
    """Write `content`, in one piece or several, beside `path`, force it to the disk, and rename it into place.

    Raises UserError if the disk refuses; `path` is then as it was.
    """
    # One fixed name: what a killed process leaves behind is overwritten by the next, not piled up.
    beside = path.with_name(f".{path.name}.tmp")
    pieces = [content] if isinstance(content, Buffer) else content
    try:
        try:
            with patiently(lambda: beside.open("wb")) as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
        with contextlib.suppress(OSError):  # Windows opens no folders, and some network disks do not sync them
            sync_folder(path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


@contextlib.contextmanager
def private(wanted: bool = True, folder: Path | None = None) -> Iterator[None]:
    """What this process writes meanwhile is its user's alone: folders 0700, files 0600, also those of other libraries.

    What is in `folder` already becomes so too. Raises UserError where the system has no such modes (Windows).
    """
    if not wanted:
        yield
        return
    if os.name == "nt":
        raise UserError("--private needs a system with file modes; on Windows, set the folder's permissions")
    for path in (folder, *folder.rglob("*")) if folder and folder.is_dir() else ():
        if not path.is_symlink():
            path.chmod(0o700 if path.is_dir() else 0o600)
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def check_writable(path: Path) -> None:
    """Raise UserError if the disk would refuse the file: to be said before the work whose result it is.

    By trying it beside `path`: what the permissions say is not the whole truth (root, read-only disks, /proc).
    """
    if path.is_dir():
        raise UserError(f"cannot write {path}: there is a folder of that name")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def sync(path: Path) -> None:
    """Force to the disk what has been written to `path`, by whomever. Raises OSError."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Force new names in `folder` to the disk: without it, a power cut may bring the old ones back. Raises OSError."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def partial_path(place: Path) -> Path:
    """A name of its own beside `place` for what is not whole yet; it says whose it is, so that `sweep` can tell.

    The machine is in the name: several may share a folder, and know nothing of each other's processes.
    """
    return place.with_name(f".part-{machine()}-{os.getpid()}-{os.urandom(3).hex()}-{place.name}")


@contextlib.contextmanager
def new_folder(place: Path) -> Iterator[Path]:
    """A new folder to be filled, which is renamed to `place` when the block ends, and removed if that fails.

    Where another process has put the same there meanwhile, that one stays, and an OSError is none.
    """
    partial = partial_path(place)
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.rename(place)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if not (isinstance(error, OSError) and place.is_dir()):
            raise


@contextlib.contextmanager
def new_file(place: Path) -> Iterator[Path]:
    """An empty file to be written, which replaces `place` when the block ends, and is removed if that fails.

    What killed processes have left of the same file is removed first. Raises OSError.
    """
    sweep(place.parent, place.name)
    partial = partial_path(place)
    try:
        partial.touch()  # Keras would make folders that are missing
        yield partial
        partial.replace(place)
    finally:
        partial.unlink(missing_ok=True)


def into_place(partial: Path, place: Path) -> None:
    """Rename a folder that is whole to `place`; if another process has put the same there, that one stays.

    Raises OSError.
    """
    try:
        partial.rename(place)
    except OSError:
        if not place.is_dir():
            raise
        shutil.rmtree(partial, ignore_errors=True)


def sweep(folder: Path, name: str = "*", others_after: float | None = None) -> None:
    """Remove what killed processes have left in `folder` under a `partial_path` of `name`; see `abandoned`."""
    for old in abandoned(folder, name, others_after):
        with contextlib.suppress(OSError):  # another process has just done so
            shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink(missing_ok=True)


def abandoned(folder: Path, name: str = "*", others_after: float | None = None) -> Iterator[Path]:
    """What is in `folder` under a `partial_path` of `name`, and whose process on this machine is dead.

    Of other machines nothing can be known: what is theirs counts after `others_after` seconds, None: never.
    """
    own = f".part-{machine()}-"
    for old in folder.glob(f".part-*-{name if name == '*' else glob.escape(name)}"):
        if old.name.startswith(own):
            number = old.name.removeprefix(own).partition("-")[0]
            if number.isdecimal() and not alive(int(number)):
                yield old
        elif others_after is not None:
            with contextlib.suppress(OSError):
                if time.time() - old.stat().st_mtime > others_after:
                    yield old


def machine() -> str:
    """This machine's name as it stands in a `partial_path`: no dash is in it, which separates the name's parts."""
    return platform.node().replace("-", "_")


def alive(pid: int) -> bool:
    """True if there is such a process, whoever's it is; and on Windows, where asking in this way would be a Ctrl-C."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
