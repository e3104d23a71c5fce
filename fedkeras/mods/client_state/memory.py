"""Where a client keeps arrays from one round to the next, by the digest of their bytes.

Under our own runtimes they lie in the client's cache folder, where any process of this client finds them, also one that
is started when a run goes on. Under Flower's runtimes they are in the client's `context.state`, which Flower keeps
for as long as a run lasts.
"""

import contextlib
import io
import re
import shutil
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import xxhash
from flwr.app import Array, ArrayRecord, Context

from fedkeras import atomic
from fedkeras.data import cache
from fedkeras.errors import UserError
from fedkeras.federation.requests import ClientContext

STALE_SECONDS = 30 * 24 * 3600.0
"""After so long nobody goes on with a run, and what it has left is removed."""
FOLDER = "client-state"
NAMES = re.compile(r"[0-9a-f]{32}")
"""A run's token and a digest, which come by wire and become a file's name."""

Arrays = Mapping[str, np.ndarray]


class ClientMemory(Protocol):
    """The states of one client in one run."""

    def recall(self, digest: str) -> dict[str, np.ndarray] | None:
        """The arrays with this digest; None if they are not here any more."""

    def keep(self, arrays: Arrays, others: Collection[str]) -> str:
        """Keep new ones, and the `others` by their digests, and nothing else; the new digest."""


def memory_of(context: Context, run: str, purpose: str) -> ClientMemory:
    """What the client `context` is of keeps for one purpose. Raises ValueError for a run's token that is none."""
    if not NAMES.fullmatch(run):
        raise ValueError(f"the server names its run {run[:50]!r}")
    # Our own runtimes say in a node's settings what it permits, and Flower's do not
    if "allow" not in context.node_config:
        return ContextMemory(context, run, purpose)
    client = ClientContext(context)
    return FolderMemory(cache.folder() / FOLDER / f"{run}-{purpose}" / str(client.cid), client.download_bytes)


def to_bytes(arrays: Arrays) -> bytes:
    """Names and arrays, one after the other, each as NumPy's .npy; the same arrays always give the same bytes."""
    out = io.BytesIO()
    np.lib.format.write_array(out, np.array(list(arrays), np.str_), allow_pickle=False)
    for array in arrays.values():
        np.lib.format.write_array(out, np.ascontiguousarray(array).reshape(array.shape), allow_pickle=False)
    return out.getvalue()


def from_bytes(data: bytes) -> dict[str, np.ndarray]:
    """The inverse of `to_bytes`. Raises ValueError for anything else."""
    stream = io.BytesIO(data)
    names = np.lib.format.read_array(stream, allow_pickle=False)
    return {str(name): np.lib.format.read_array(stream, allow_pickle=False) for name in names}


def digest_of(data: bytes) -> str:
    """32 hexadecimal digits."""
    return xxhash.xxh3_128(data).hexdigest()


class FolderMemory:
    """Files of a folder that is this client's in this run; `most` bytes are the limit for all clients' together."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most

    def recall(self, digest: str) -> dict[str, np.ndarray] | None:
        """None for a file that is damaged, too."""
        try:
            data = (self._folder / digest).read_bytes()
            return from_bytes(data) if digest_of(data) == digest else None
        except (OSError, ValueError):
            return None

    def keep(self, arrays: Arrays, others: Collection[str]) -> str:
        """Raises UserError where the disk has no room or may not be written."""
        data = to_bytes(arrays)
        digest = digest_of(data)
        try:
            self._make_room(digest, len(data), others)
            atomic.replace_file(self._folder / digest, data)
            for path in self._folder.iterdir():
                if path.name != digest and path.name not in others:
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"cannot keep its state in {self._folder}: {error.strerror or error}") from error
        return digest

    def _make_room(self, digest: str, size: int, others: Collection[str]) -> None:
        """See that a state of so many bytes may be kept beside the `others`, and that there is a folder for it.

        There must be room for the states before and after an update. Everybody's files are counted only where this
        client's grow, which they do in its first updates and not from then on.
        """
        everybodys = self._folder.parents[1]
        now = {path.name: _size(path) for path in self._folder.glob("*")}
        then = max(2 * size, size + sum(now.get(other, 0) for other in others if other != digest))
        if now and then <= sum(now.values()):
            return
        if not now:
            _remove_stale(everybodys)
        held = sum(map(_size, everybodys.glob("*/*/*"))) - sum(now.values())
        if held + then > self._most:
            raise UserError(
                f"clients' states take {held / 1e6:.3g} MB in {everybodys}, and with {then / 1e6:.3g} more it "
                f"would be above {self._most / 1e6:.3g} MB (--max-download-mb): what lies there may be deleted"
            )
        everybodys.mkdir(mode=0o700, parents=True, exist_ok=True)  # what is in there comes of examples
        self._folder.mkdir(parents=True, exist_ok=True)


def _size(path: Path) -> int:
    """In bytes; 0 for what another process has just removed."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _remove_stale(folder: Path) -> None:
    """Remove what runs have left that nobody goes on with: a client's folder changes with each of its updates."""
    oldest = time.time() - STALE_SECONDS
    for place in folder.glob("*/*"):
        with contextlib.suppress(OSError):  # another process is doing the same
            if place.stat().st_mtime < oldest:
                shutil.rmtree(place, ignore_errors=True)
                place.parent.rmdir()  # which fails as long as another client's is in it


class ContextMemory:
    """Flower's state of a client; several mods of one run have tokens of their own, so that none takes another's."""

    def __init__(self, context: Context, run: str, purpose: str) -> None:
        self._state, self._name = context.state, f"{FOLDER}-{run}-{purpose}"
        self._most = ClientContext(context).download_bytes

    def recall(self, digest: str) -> dict[str, np.ndarray] | None:
        """As it was kept."""
        kept = self._kept()
        return from_bytes(kept[digest].data) if digest in kept else None

    def keep(self, arrays: Arrays, others: Collection[str]) -> str:
        """It lasts as long as Flower keeps the client's Context. Raises UserError where it would be too large."""
        data, kept = to_bytes(arrays), self._kept()
        digest = digest_of(data)
        whole = {other: kept[other] for other in others if other in kept}
        whole[digest] = Array("uint8", (len(data),), FOLDER, data)
        sizes = [len(state.data) for state in whole.values()]
        for name, entry in self._state.items():
            if name.startswith(FOLDER) and name != self._name and isinstance(entry, ArrayRecord):
                sizes += [len(state.data) for state in entry.values()]
        if sum(sizes) > self._most:
            raise UserError(f"this client's states would take {sum(sizes) / 1e6:.3g} MB, above {self._most / 1e6:.3g}")
        self._state[self._name] = ArrayRecord(whole)
        return digest

    def _kept(self) -> ArrayRecord:
        kept = self._state.get(self._name)
        return kept if isinstance(kept, ArrayRecord) else ArrayRecord()
