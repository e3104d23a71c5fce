"""Where a client keeps what it has not sent yet: its residual, by the digest of its bytes.

The server says in each round by which digest it knows the client's last update that a round has used, so that a client
goes on from there: an update that was lost, came too late, or belonged to a round that was repeated is as if it had
never been made. So the residuals before and after the newest update are kept.

Under our own runtimes they lie in the client's cache folder, where any process of this client finds them, also one that
is started when a run goes on. Under Flower's runtimes they are in the client's `context.state`, which Flower keeps
for as long as a run lasts.
"""

import contextlib
import re
import shutil
import time
from pathlib import Path
from typing import Protocol

import numpy as np
import xxhash
from flwr.app import ArrayRecord, Context

from fedkeras import atomic
from fedkeras.data import cache
from fedkeras.errors import UserError
from fedkeras.federation.records import record, view
from fedkeras.federation.requests import ClientContext

STALE_SECONDS = 30 * 24 * 3600.0
"""After so long nobody goes on with a run, and what it has left is removed."""
STATE = "compression-residuals"
NAMES = re.compile(r"[0-9a-f]{32}")
"""A run's token and a digest, which come by wire and become a file's name."""


def digest_of(residual: np.ndarray) -> str:
    """Of a residual, float32 (n,)."""
    return xxhash.xxh3_128(residual.tobytes()).hexdigest()


class ResidualMemory(Protocol):
    """The residuals of one client in one run."""

    def recall(self, digest: str) -> np.ndarray | None:
        """The one with this digest; None if it is not here any more."""

    def keep(self, before: str, residual: np.ndarray) -> str:
        """Keep a new one, and the one that it came from, and no other; its digest."""


def memory_of(context: Context, run: str) -> ResidualMemory:
    """That of the client `context` is of. Raises ValueError for a run's token that is none."""
    if not NAMES.fullmatch(run):
        raise ValueError(f"the server names its run {run[:50]!r}")
    # Our own runtimes say in a node's settings what it permits, and Flower's do not
    if "allow" not in context.node_config:
        return ContextMemory(context)
    client = ClientContext(context)
    return FolderMemory(cache.folder() / "residuals" / run / str(client.cid), client.download_bytes)


class FolderMemory:
    """Files of a folder that is this client's in this run; `most` bytes are the limit for all clients' together."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most

    def recall(self, digest: str) -> np.ndarray | None:
        """None for a file that is damaged, too."""
        try:
            residual = np.frombuffer((self._folder / digest).read_bytes(), np.float32)
        except (OSError, ValueError):
            return None
        return residual if digest_of(residual) == digest else None

    def keep(self, before: str, residual: np.ndarray) -> str:
        """Raises UserError where the disk has no room or may not be written."""
        digest = digest_of(residual)
        try:
            if not self._folder.is_dir():
                self._begin(residual.nbytes)
            atomic.replace_file(self._folder / digest, residual.tobytes())
            for path in self._folder.iterdir():
                if path.name not in (before, digest):
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"cannot keep residuals in {self._folder}: {error.strerror or error}") from error
        return digest

    def _begin(self, size: int) -> None:
        """Make the folder, if there is room in it for the residuals before and after an update."""
        everybodys = self._folder.parents[1]
        _remove_stale(everybodys)
        held = sum(path.stat().st_size for path in everybodys.glob("*/*/*"))
        if held + 2 * size > self._most:
            raise UserError(
                f"residuals take {held / 1e6:.3g} MB in {everybodys}, and with {2 * size / 1e6:.3g} more it would be "
                f"above {self._most / 1e6:.3g} MB (--max-download-mb): what lies there may be deleted"
            )
        everybodys.mkdir(mode=0o700, parents=True, exist_ok=True)  # what is in there comes of examples
        self._folder.mkdir(parents=True, exist_ok=True)


def _remove_stale(folder: Path) -> None:
    """Remove what runs have left that nobody goes on with: a client's folder changes with each of its updates."""
    oldest = time.time() - STALE_SECONDS
    for place in folder.glob("*/*"):
        with contextlib.suppress(OSError):  # another process is doing the same
            if place.stat().st_mtime < oldest:
                shutil.rmtree(place, ignore_errors=True)
                place.parent.rmdir()  # which fails as long as another client's is in it


class ContextMemory:
    """Flower's state of a client."""

    def __init__(self, context: Context) -> None:
        self._state = context.state

    def recall(self, digest: str) -> np.ndarray | None:
        """As it was kept."""
        kept = self._state.get(STATE)
        return view(kept[digest]) if isinstance(kept, ArrayRecord) and digest in kept else None

    def keep(self, before: str, residual: np.ndarray) -> str:
        """It lasts as long as Flower keeps the client's Context."""
        digest, old = digest_of(residual), self.recall(before)
        self._state[STATE] = record({digest: residual, **({} if old is None else {before: old})})
        return digest
