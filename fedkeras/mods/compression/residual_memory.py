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
    return FolderMemory(cache.folder() / "residuals", f"{run}-{client.cid}", client.download_bytes)


class FolderMemory:
    """Files of a folder; `most` bytes are the limit for all runs' together."""

    def __init__(self, folder: Path, owner: str, most: int) -> None:
        self._folder, self._owner, self._most = folder, owner, most

    def recall(self, digest: str) -> np.ndarray | None:
        """None for a file that is damaged, too."""
        try:
            residual = np.frombuffer(self._path(digest).read_bytes(), np.float32)
        except (OSError, ValueError):
            return None
        return residual if digest_of(residual) == digest else None

    def keep(self, before: str, residual: np.ndarray) -> str:
        """Raises UserError where the disk has no room or may not be written."""
        digest = digest_of(residual)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # what is in them comes of examples
            others = self._sweep({before, digest})
        except OSError as error:
            raise UserError(f"cannot keep residuals in {self._folder}: {error.strerror or error}") from error
        if others + residual.nbytes > self._most:
            raise UserError(
                f"residuals take {others / 1e6:.3g} MB in {self._folder}, and with {residual.nbytes / 1e6:.3g} more it "
                f"would be above {self._most / 1e6:.3g} MB (--max-download-mb): what lies there may be deleted"
            )
        atomic.replace_file(self._path(digest), residual.tobytes())
        return digest

    def _path(self, digest: str) -> Path:
        return self._folder / f"{self._owner}-{digest}"

    def _sweep(self, kept: set[str]) -> int:
        """Remove this client's other residuals, and those that are too old; bytes of what is left."""
        left, oldest = 0, time.time() - STALE_SECONDS
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another client's process has removed it
                owner, _, digest = path.name.rpartition("-")
                about = path.stat()
                if about.st_mtime < oldest or (owner == self._owner and digest not in kept):
                    path.unlink()
                else:
                    left += about.st_size
        return left


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
