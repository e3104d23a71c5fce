"""The bundle (FAB) that `flwr run` sends to the nodes: all of our code is in it, and it runs from there.

A line too many in .gitignore, a template that is no .py file, or a module that Flower's own patterns leave out, such as
test_*.py, would else be seen only as an ImportError on somebody's node.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk

from fedkeras.errors import UserError
from fedkeras.flower import code_digest

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 10_000_000
IMPORT_ALL = """
import importlib, json, sys
import flwr.clientapp, flwr.serverapp
modules = [importlib.import_module(name) for name in sys.argv[1:]]
server, client = importlib.import_module("fedkeras.server"), importlib.import_module("fedkeras.client")
print(json.dumps({
    "elsewhere": [f"{module.__name__}: {module.__file__}" for module in modules
                  if not module.__file__.startswith(sys.path[0])],
    "apps": [isinstance(server.app, flwr.serverapp.ServerApp), isinstance(client.app, flwr.clientapp.ClientApp)],
    "digest": importlib.import_module("fedkeras.flower.code_digest").digest(),
}))
"""


def own_code(folder: Path) -> set[str]:
    """What the apps consist of, as paths in the checkout."""
    packages = [path for name in ("fedkeras", "strategies", "data") for path in (folder / name).rglob("*.py")]
    return {path.relative_to(folder).as_posix() for path in [folder / "server.py", folder / "client.py", *packages]}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout as another person would get it: tracked files and new ones that are not ignored."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    copy = tmp_path_factory.mktemp("checkout") / "fedkeras"
    for name in filter(None, done.stdout.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    return copy


@pytest.fixture(scope="module")
def bundle(checkout: Path) -> bytes:
    """The copy as `flwr run` would send it."""
    return build_fab_from_disk(checkout)


@pytest.fixture(scope="module")
def unpacked(bundle: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle as it lies on a node."""
    folder = tmp_path_factory.mktemp("node")
    zipfile.ZipFile(io.BytesIO(bundle)).extractall(folder)
    return folder


def test_all_of_the_code_is_in_the_bundle(bundle: bytes, checkout: Path) -> None:
    """And nothing of it is ignored by git: the copy has every module that lies in the checkout."""
    names = set(zipfile.ZipFile(io.BytesIO(bundle)).namelist())
    assert own_code(ROOT) - names == set()
    assert own_code(checkout) == own_code(ROOT)
    assert len(own_code(ROOT)) > 60


SECRETS = (
    "runs/x/model.keras", "runs/x/config.json", "runs/x/own.py", "server-key.pem", "certs/ca-key.pem", ".env",
    "passphrase", "passphrase.txt", "passphrase.md", "kaggle.json", "credentials.toml", "secrets.yaml", "data/rows.csv",
)  # fmt: skip


def test_no_run_and_no_secret_is_in_the_bundle(checkout: Path, bundle: bytes, tmp_path: Path) -> None:
    """What people leave in a checkout stays there; code of theirs is what `--model mine:make` needs."""
    shutil.copytree(checkout, tmp_path / "own")
    for name in (*SECRETS, "mine.py"):
        path = tmp_path / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("secret = 1\n")
    names = zipfile.ZipFile(io.BytesIO(build_fab_from_disk(tmp_path / "own"))).namelist()
    assert {*names} - {*zipfile.ZipFile(io.BytesIO(bundle)).namelist()} == {"mine.py"}
    assert {Path(name).suffix for name in names} == {".py", ".toml", ""}
    assert {name for name in names if not name.endswith(".py")} == {"pyproject.toml", ".info/CONTENT"}


def test_a_warm_supernode_of_this_checkout_takes_the_bundle(bundle: bytes, tmp_path: Path, checkout: Path) -> None:
    """Its executor runs the code that lies here, and that of the bundle must be the same."""
    code_digest.check_bundle(bundle)
    shutil.copytree(checkout, tmp_path / "own")
    with (tmp_path / "own" / "strategies" / "fedavg.py").open("a") as file:
        file.write("# changed\n")
    with pytest.raises(UserError, match="this SuperNode runs other code than the server"):
        code_digest.check_bundle(build_fab_from_disk(tmp_path / "own"))


def test_the_bundle_is_small_enough_for_flower(bundle: bytes) -> None:
    assert len(bundle) < LIMIT


def test_everything_can_be_imported_from_the_bundle(unpacked: Path, checkout: Path) -> None:
    """In a process that does not see the checkout, though the environment has it installed for editing."""
    short = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in own_code(unpacked)]
    names = sorted(name if name.startswith("fedkeras") else f"fedkeras.{name}" for name in short)
    # -S leaves out site-packages' .pth files, and with them the way to the checkout; the packages are put back by name.
    packages = [entry for entry in sys.path if entry.endswith("-packages")]
    script = f"import sys; sys.path[:] = [{str(unpacked)!r}] + sys.path[1:] + {packages!r}\n{IMPORT_ALL}"
    command = [sys.executable, "-S", "-B", "-c", script, *names]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=unpacked, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["elsewhere"] == []
    assert said["apps"] == [True, True]
    assert said["digest"] == code_digest.digest_of(checkout)  # or a client would refuse to work with its own server
