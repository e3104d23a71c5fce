"""Parsed data sets as plain .npy files in the user's cache folder, read memory-mapped from then on.

An entry is a folder that appears by one rename, so a reader never sees half of it. Several processes may start at
once: the first parses, the others wait for it. A cache that cannot be used never stops a run. Data that should not be
in memory twice, or at all, are written block of rows by block of rows.
"""

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fedkeras import atomic

log = logging.getLogger("fedkeras.data")
Arrays = dict[str, np.ndarray]
STALE_SECONDS = 24 * 3600.0
"""What another machine began so long ago, in a cache that is shared, it has given up."""
_warned: set[Path] = set()


def folder() -> Path:
    """FEDKERAS_CACHE where it is set, else the user's cache folder (~/.cache/fedkeras on Linux)."""
    if named := os.environ.get("FEDKERAS_CACHE"):
        return Path(named)
    import platformdirs

    return platformdirs.user_cache_path("fedkeras", appauthor=False)


def fingerprint(files: Iterable[Path], *words: object) -> str:
    """A digest of names, sizes and times of change: another one as soon as a file is replaced."""
    digest = hashlib.sha256(repr(words).encode())
    for file in sorted(files):
        status = file.stat()
        digest.update(repr((str(file.resolve()), status.st_size, status.st_mtime_ns)).encode())
    return digest.hexdigest()[:24]


def cached(name: str, key: str, build: Callable[[], Arrays]) -> Arrays:
    """The arrays that `build` returns, from the cache if it holds them, else built and stored.

    Arrays that come from the cache are read-only and memory-mapped. Errors of `build` pass through.
    """
    entry = folder() / f"{name}-{key}"
    if (arrays := _read(entry)) is not None:
        return arrays
    with _lock(entry, name):
        if (arrays := _read(entry)) is not None:  # another process was faster
            return arrays
        # a warning, so that it is seen: all of LEAF's FEMNIST takes minutes
        log.warning("%s: reading the original files, once; the next start takes them from %s", name, entry)
        arrays = build()
        try:
            _write(entry, arrays)
        except OSError as error:
            _warn_once(entry.parent, error)
            return arrays
    # from the file rather than from memory: the pages are then shared by all processes, and given back when short
    return _read(entry) or arrays


def cached_rows(
    name: str, key: str, blocks: Callable[[], Iterator[np.ndarray]], counts: Callable[[], np.ndarray]
) -> tuple[np.ndarray, np.ndarray] | None:
    """One array of any size, from the cache if it holds it, else written block after block: never whole in memory.

    `blocks` begins a new pass over the rows, arrays (n, ...); its errors pass through, and must be no OSErrors. What
    `counts` returns after it is kept beside, and returned too. The array is read-only and memory-mapped. None where the
    cache cannot be written, which one warning says.
    """

    def fill(new: Path) -> None:
        write_rows(new / "rows.npy", blocks())
        np.save(new / "counts.npy", counts(), allow_pickle=False)

    entry = folder() / f"{name}-{key}"
    with _lock(entry, name) if not entry.is_dir() else contextlib.nullcontext():
        if (arrays := _read(entry)) is None:
            log.warning("%s: reading the original files, once; the next start takes them from %s", name, entry)
            try:
                _appear(entry, fill)
            except OSError as error:
                _warn_once(entry.parent, error)
                return None
            arrays = _read(entry)
    return (arrays["rows"], arrays["counts"]) if arrays else None


def _read(entry: Path) -> Arrays | None:
    try:
        files = sorted(entry.glob("*.npy"))
        return {file.stem: np.load(file, mmap_mode="r") for file in files} or None
    except (OSError, ValueError, EOFError) as error:
        log.warning("the cache %s cannot be read (%s) and is made anew", entry, error)
        shutil.rmtree(entry, ignore_errors=True)
        return None


def _write(entry: Path, arrays: Arrays) -> None:
    def fill(new: Path) -> None:
        for name, array in arrays.items():
            np.save(new / f"{name}.npy", array, allow_pickle=False)

    _appear(entry, fill)


def _appear(entry: Path, fill: Callable[[Path], None]) -> None:
    """Make the folder `entry`, with what `fill` puts into it, by one rename."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    atomic.sweep(entry.parent, others_after=STALE_SECONDS)
    with atomic.new_folder(entry) as new:
        fill(new)
        new.chmod(0o755)


@contextlib.contextmanager
def _lock(entry: Path, name: str) -> Iterator[None]:
    """Let one process parse at a time. Without locks (Windows, some network disks) all do, which costs time only."""
    with contextlib.ExitStack() as stack:
        try:
            import fcntl

            entry.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context((entry.parent / f".{entry.name}.lock").open("w"))
        except (ImportError, OSError):
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("%s: waiting for another process that is reading the original files", name)
            fcntl.flock(file, fcntl.LOCK_EX)  # the system frees it if that process dies
        except OSError as error:
            log.info("%s: no locks in %s (%s)", name, entry.parent, error)
        yield


def _warn_once(where: Path, error: OSError) -> None:
    if where not in _warned:
        _warned.add(where)
        log.warning(
            "the cache in %s cannot be written (%s): going on in memory, and the next start will be as slow; "
            "set FEDKERAS_CACHE to a folder that can be",
            where,
            error.strerror or error,
        )


BLOCK_BYTES = 1 << 24
"""Bytes of a block of rows: few enough not to matter, enough that Python's share of the time does not."""


def write_rows(path: Path, blocks: Iterator[np.ndarray]) -> None:
    """Write blocks (n, ...) of one dtype, one after another, as the array `path` (.npy).

    Numbers of float64 that float32 holds exactly, all of them, are written as float32. Raises OSError, and ValueError
    where there is no block.
    """
    wide = path.with_suffix(".wide")
    exact = _write_blocks(wide, blocks)
    if exact:
        array = np.load(wide, mmap_mode="r")
        _write_blocks(path, (np.asarray(block, np.float32) for block in slices(array)))
        wide.unlink()
    else:
        wide.rename(path)


def narrowed(array: np.ndarray) -> np.ndarray:
    """What `write_rows` would have written: float64 as float32 where that loses nothing."""
    return array.astype(np.float32) if _fits(array) else array


def slices(array: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of an array in blocks of some megabytes."""
    step = rows_in_a_block(array.shape[1:], array.dtype)
    return (array[start : start + step] for start in range(0, len(array), step))


def rows_in_a_block(row_shape: tuple[int, ...], dtype: np.dtype) -> int:
    """How many rows of this shape make a block, at least one."""
    return max(1, BLOCK_BYTES // max(1, int(np.prod(row_shape, dtype=np.int64)) * np.dtype(dtype).itemsize))


def _write_blocks(path: Path, blocks: Iterator[np.ndarray]) -> bool:
    """Write the file and return whether float32 would do; the number of rows goes into the header at the end."""
    rows, first, exact = 0, None, True
    with path.open("wb") as file:
        for block in blocks:
            if first is None:
                first = block
                _header(file, first, 0)
                start = file.tell()
            file.write(np.ascontiguousarray(block).data)
            rows, exact = rows + len(block), exact and _fits(block)
        if first is None:
            raise ValueError("no rows to write")
        file.seek(0)
        _header(file, first, rows)
        if file.tell() != start:  # numpy leaves room for a growing first axis, and says so
            raise ValueError("the header of the .npy file has changed its length")
    return exact


def _header(file: BinaryIO, block: np.ndarray, rows: int) -> None:
    descr = np.lib.format.dtype_to_descr(block.dtype)
    shape = (rows, *block.shape[1:])
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})


def _fits(block: np.ndarray) -> bool:
    if block.dtype != np.float64:
        return False
    with np.errstate(over="ignore"):
        return bool(np.array_equal(block.astype(np.float32), block, equal_nan=True))
