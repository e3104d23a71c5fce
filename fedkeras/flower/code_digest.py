"""Is this the same code as the server's? A digest of what a client runs, and where it was imported from.

Flower's local SuperLink stays alive between runs, and its simulation imports from the folder it was started in before
it looks at the app's bundle: a run started in another checkout would train with the wrong code and seem to succeed.
"""

import functools
import hashlib
from pathlib import Path

from fedkeras.checkout import NAMES, ROOT
from fedkeras.errors import UserError


@functools.cache
def digest() -> str:
    """The digest of the code that this process runs."""
    return digest_of(ROOT)


def digest_of(folder: Path) -> str:
    """A digest of all modules of fedkeras as they lie on disk, names and contents.

    `folder` is a checkout, an unpacked bundle, or a site-packages with fedkeras in it: the same code has the same
    digest in each of them.
    """
    package = folder / "fedkeras"
    files = {path.relative_to(package).as_posix(): path for path in package.rglob("*.py")}
    if not (package / "data").exists():  # these lie beside the package there
        beside = [path for name in NAMES for path in (*folder.glob(f"{name}.py"), *(folder / name).rglob("*.py"))]
        files |= {path.relative_to(folder).as_posix(): path for path in beside}
    total = hashlib.sha256()
    for name, path in sorted(files.items()):
        text = path.read_bytes().replace(b"\r\n", b"\n")
        total.update(f"{name} {len(text)}\n".encode() + text)
    return total.hexdigest()[:16]


def check(expected: str | None) -> None:
    """Raise UserError if the server sent the digest of other code than this. None: it sent none."""
    if expected is not None and expected != digest():
        raise UserError(
            f"this client runs other code than the server: it was imported from {ROOT}. Flower's local SuperLink was "
            "probably started in that folder: stop it (`pkill -f flower-superlink`) and run again"
        )
