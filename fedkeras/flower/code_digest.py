"""Is this the same code as the server's? A digest of what a client runs, and where it was imported from.

Flower's local SuperLink stays alive between runs, and its simulation imports from the folder it was started in before
it looks at the app's bundle: a run started in another checkout would train with the wrong code and seem to succeed.
"""

import functools
import hashlib
import io
import tomllib
import zipfile
from collections.abc import Mapping
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
    return _digest({name: path.read_bytes() for name, path in files.items()})


def _digest(files: Mapping[str, bytes]) -> str:
    total = hashlib.sha256()
    for name, content in sorted(files.items()):
        text = content.replace(b"\r\n", b"\n")
        total.update(f"{name} {len(text)}\n".encode() + text)
    return total.hexdigest()[:16]


def check(expected: str | None) -> None:
    """Raise UserError if the server sent the digest of other code than this. None: it sent none."""
    if expected is not None and expected != digest():
        raise UserError(
            f"this client runs other code than the server: it was imported from {ROOT}. Flower's local SuperLink was "
            "probably started in that folder: stop it (`pkill -f flower-superlink`) and run again"
        )


@functools.lru_cache(maxsize=1)
def check_bundle(content: bytes) -> None:
    """Raise UserError if a run's bundle (FAB) holds other code than this process runs, or is another app's.

    For a process that answers a run without using its bundle. A module of the user's in it (`mine.py`) must be the same
    where it lies here too. The bundle of an installed fedkeras holds no code: then the digest in the messages decides.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as bundle:
        app = tomllib.loads(bundle.read("pyproject.toml").decode())["tool"]["flwr"]["app"]["components"]["clientapp"]
        if app not in OWN_APPS:
            raise UserError(
                f"this SuperNode was started by `fedkeras supernode`, which answers for fedkeras alone, and the run is "
                f"of another app ({app}): use flower-supernode"
            )
        modules = {name: bundle.read(name) for name in bundle.namelist() if name.endswith(".py")}
    own = {name for name in modules if name.partition("/")[0].removesuffix(".py") in ("fedkeras", *NAMES)}
    if own and _digest({name.removeprefix("fedkeras/"): modules[name] for name in own}) != digest():
        raise UserError(_OTHER_CODE)
    for name in sorted(modules.keys() - own):
        here = ROOT / name
        if name.partition("/")[0] not in BESIDE and here.is_file() and here.read_bytes() != modules[name]:
            raise UserError(f"{_OTHER_CODE} ({name} differs)")


def check_supernode(sent: str | None) -> None:
    """Raise UserError unless the server sent the digest of the code that this SuperNode's executor runs."""
    if sent is None:
        raise UserError("this SuperNode was started by `fedkeras supernode`, and the run's messages are not fedkeras'")
    if sent != digest():
        raise UserError(_OTHER_CODE)


OWN_APPS = ("client:app", "fedkeras.client:app")
"""What the bundle of a checkout and that of an installed package call the ClientApp."""
BESIDE = ("tests", "benchmarks", "notebooks")
"""Folders of a checkout of which nothing is run with it."""
_OTHER_CODE = (
    f"this SuperNode runs other code than the server: that in {ROOT}. Bring the same version there, end the SuperNode "
    "and start it again"
)
