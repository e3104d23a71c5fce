"""Is this the same code as the server's? A digest of what a client runs, and where it was imported from.

Flower's local SuperLink stays alive between runs, and its simulation imports from the folder it was started in before
it looks at the app's bundle: a run started in another checkout would train with the wrong code and seem to succeed.
"""

import functools
import hashlib
from pathlib import Path

from fedkeras.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def digest() -> str:
    """16 hexadecimal digits that stand for the product's Python files as they lie on disk: their names and contents.

    A checkout, Flower's bundle of it and an installed wheel of the same code have the same digest.
    """
    package, total = ROOT / "fedkeras", hashlib.sha256()
    files = {path.relative_to(package).as_posix(): path for path in package.rglob("*.py")}
    if not (package / "data").is_dir():  # a checkout, where these lie beside the package
        beside = [ROOT / "server.py", ROOT / "client.py"]
        beside += [path for name in ("data", "strategies") for path in (ROOT / name).rglob("*.py")]
        files |= {path.relative_to(ROOT).as_posix(): path for path in beside if path.exists()}
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
