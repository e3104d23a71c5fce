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
    """A digest of client.py and the packages fedkeras, data and strategies as they lie on disk: names and contents."""
    total = hashlib.sha256()
    files = [ROOT / "client.py"]
    for package in ("fedkeras", "data", "strategies"):
        files += (ROOT / package).rglob("*.py")
    for path in sorted(files):
        text = path.read_bytes().replace(b"\r\n", b"\n") if path.exists() else b""
        total.update(f"{path.relative_to(ROOT).as_posix()} {len(text)}\n".encode() + text)
    return total.hexdigest()[:16]


def check(expected: str | None) -> None:
    """Raise UserError if the server sent the digest of other code than this. None: it sent none."""
    if expected is not None and expected != digest():
        raise UserError(
            f"this client runs other code than the server: it was imported from {ROOT}. Flower's local SuperLink was "
            "probably started in that folder: stop it (`pkill -f flower-superlink`) and run again"
        )
