"""What a client has trained and no server has confirmed yet: results, a folder each in its cache, kept until it is."""

import contextlib
import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from fedkeras import atomic
from fedkeras.data import cache
from fedkeras.errors import UserError
from fedkeras.provisioning.download_cache import size_of

PIECE_BYTES = 16 << 20
"""What is delivered of a file at once."""

FILES = ("model.keras", "epochs.csv", "log.txt", "folds.csv", "normaliser.npz", "labels.json", "columns.json")
"""What a result may consist of."""

Figures = dict[str, float]
"""Of a training, in Flower's spelling: num-examples, seconds, loss, accuracy, val-loss, ...; what was measured."""


@dataclass(frozen=True)
class LocalResult:
    """`run` is the run's id, `files` their sizes in bytes by name, `digest` of names and contents."""

    key: str
    run: str
    cid: int
    figures: Figures
    files: dict[str, int]
    digest: str


def results() -> Path:
    """The folder of all results."""
    return cache.folder() / "results"


def keep(run: str, cid: int, make: Callable[[Path], Figures]) -> LocalResult:
    """Keep the files that `make` puts into a new folder, and the figures that it returns. Raises UserError."""
    key = uuid.uuid4().hex
    try:
        _sweep()
        with atomic.new_folder(results() / key) as partial:
            figures = make(partial)
            paths = [partial / name for name in FILES if (partial / name).exists()]
            for path in paths:
                atomic.sync(path)
            sizes = {path.name: path.stat().st_size for path in paths}
            result = LocalResult(key, run, cid, figures, sizes, digest_of(paths))
            atomic.replace_file(partial / "result.json", json.dumps(asdict(result)).encode())
    except OSError as error:
        raise UserError(
            f"what was trained cannot be kept in {results()}: {error.strerror or error}; set FEDKERAS_CACHE to a "
            "folder that has room"
        ) from error
    return result


def require_room(most: int) -> None:
    """Raise UserError if what is kept takes `most` bytes already: a server may begin as many runs as it likes."""
    if (held := size_of(results())) > most:
        raise UserError(
            f"{held / 1e6:.0f} MB of results wait here to be delivered, and no more than {most / 1e6:.0f} are kept "
            f"(--max-download-mb): deliver them with --deliver, or delete {results()}"
        )


def pending() -> list[LocalResult]:
    """All results that are kept, the oldest first."""
    found = []
    for path in results().glob("[!.]*/result.json"):  # a hidden folder is one that is still being filled
        with contextlib.suppress(OSError, ValueError, TypeError):
            found.append((path.stat().st_mtime, LocalResult(**json.loads(path.read_text()))))
    return [result for _, result in sorted(found, key=lambda pair: (pair[0], pair[1].key))]


def kept_for(run: str, cid: int) -> LocalResult | None:
    """The newest result of this client's in this run, if one is kept."""
    return next((result for result in reversed(pending()) if (result.run, result.cid) == (run, cid)), None)


def find(key: str) -> LocalResult:
    """The result with this key. Raises UserError if there is none any more."""
    for result in pending():
        if result.key == key:
            return result
    raise UserError("this client does not hold that result any more")


def read(result: LocalResult, name: str, first: int, count: int) -> bytes:
    """A piece of one of its files."""
    if name not in result.files:
        raise UserError(f"the result has no file {name}")
    with (results() / result.key / name).open("rb") as file:
        file.seek(first)
        return file.read(count)


def forget(result: LocalResult) -> None:
    """Delete it: the server has it. Killed in the midst of that, it must not come back with half of its files."""
    partial = atomic.partial_path(results() / result.key)
    with contextlib.suppress(OSError):
        (results() / result.key / "result.json").unlink(missing_ok=True)
        (results() / result.key).rename(partial)
    shutil.rmtree(partial, ignore_errors=True)


def _sweep() -> None:
    """Remove what killed processes have left half done; put in its place what lacked nothing but its name."""
    for old in atomic.abandoned(results()):
        if (old / "result.json").exists():  # the last that is written
            with contextlib.suppress(OSError):  # another process was faster
                old.rename(results() / old.name.rpartition("-")[2])
        else:
            shutil.rmtree(old, ignore_errors=True)


def digest_of(paths: list[Path]) -> str:
    """SHA-256 of names, sizes and contents."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        for piece in _pieces(path):
            digest.update(piece)
    return digest.hexdigest()


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            yield piece
