"""fedkeras as it is installed, and as it lies in a checkout: run where files of the user's have names of ours.

A wheel brings one top-level name. In a checkout, `import data` means the same module object as `fedkeras.data`, and the
user's own data.py where there is one.
"""

import dataclasses
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from built_wheel import ROOT, build

from fedkeras import checkout
from fedkeras.commands import COMMANDS, completion
from fedkeras.flower import code_digest

NAMES = ("data", "strategies", "server", "client")
MINE = """
import numpy as np
from fedkeras.data import ArraySource

def load(config):
    x, y = np.eye(40, 6, dtype="float32"), np.arange(40) % 4
    return ArraySource("mine", (x, y), (x[:8], y[:8]), classes=list("abcd"), provenance="made up")

def make(input_shape, num_classes):
    import keras

    return keras.Sequential([keras.Input(input_shape), keras.layers.Dense(num_classes)])
"""


def modules(folder: Path) -> set[str]:
    """The product's modules, as they are imported, of a checkout."""
    found = [path.relative_to(folder / "fedkeras") for path in (folder / "fedkeras").rglob("*.py")]
    found += [path.relative_to(folder) for name in ("data", "strategies") for path in (folder / name).rglob("*.py")]
    return {f"fedkeras/{path.as_posix()}" for path in [*found, Path("server.py"), Path("client.py")]}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel in it, as pip installs it, before all else on the path; its dependencies are as here."""
    folder = tmp_path_factory.mktemp("site")
    flags = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", "--target", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "install", *flags, str(wheel)], check=True, timeout=120)
    return folder


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A user's folder in which all our short names are files that must not be imported."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('a file of the user was imported')\n")
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def run(folder: Path, path: Path, *command: object, timeout: float = 240.0) -> subprocess.CompletedProcess:
    """Run a command in `folder` with `path` in PYTHONPATH."""
    environment = {**os.environ, "PYTHONPATH": str(path), "FLWR_TELEMETRY_ENABLED": "0"}
    words = [str(word) for word in command]
    return subprocess.run(
        words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
    )


def test_a_wheel_brings_one_name_and_all_of_the_code(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.partition("/")[0] for name in names} == {"fedkeras", f"fedkeras-{checkout.version()}.dist-info"}
    assert {name for name in names if name.endswith(".py")} == modules(ROOT)


def test_an_editable_installation_holds_no_copies(tmp_path: Path) -> None:
    """Copies of server.py and client.py would go out of date beside the ones that are edited."""
    names = zipfile.ZipFile(build("wheel:editable", tmp_path)).namelist()
    assert [name for name in names if name.endswith(".py")] == []
    assert [name for name in names if name.endswith(".pth")] != []


def test_a_wheel_can_be_built_from_the_source_distribution(tmp_path: Path) -> None:
    """And what lies about in a checkout is not in it."""
    for name in ("fedkeras", "data", "strategies"):
        shutil.copytree(ROOT / name, tmp_path / "own" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("server.py", "client.py", "hatch_build.py", "pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, tmp_path / "own" / name)
    for name in ("runs/x/model.keras", "server-key.pem", ".env", "passphrase.txt"):
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_text("secret")
    with tarfile.open(build("sdist", tmp_path / "dist", tmp_path / "own")) as archive:
        archive.extractall(tmp_path, filter="data")
        tops = {name.split("/")[1] for name in archive.getnames()}
    assert tops == {path.name for path in (tmp_path / "own").iterdir()} - {
        "runs", "server-key.pem", ".env", "passphrase.txt"
    } | {"PKG-INFO"}  # fmt: skip
    (unpacked,) = tmp_path.glob("fedkeras-*")
    names = zipfile.ZipFile(build("wheel", tmp_path / "again", unpacked)).namelist()
    assert {name for name in names if name.endswith(".py")} == modules(ROOT)


def test_the_same_code_has_the_same_digest_wherever_it_lies(installed: Path) -> None:
    """Or else a client from a wheel would refuse to work with a server from a checkout."""
    assert code_digest.digest_of(installed) == code_digest.digest_of(ROOT)


def test_the_command_where_the_user_has_files_of_our_names(installed: Path, hostile: Path) -> None:
    fedkeras = installed / "bin" / "fedkeras"
    version = run(hostile, installed, fedkeras, "--version")
    assert (version.returncode, version.stdout) == (0, f"fedkeras {checkout.version()}\n"), version.stderr
    usage = run(hostile, installed, fedkeras)
    assert usage.stdout.startswith("usage: fedkeras COMMAND [flags]\n")
    shown = run(hostile, installed, fedkeras, "data", "digits", "--num-partitions", 2)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("digits: UCI ")
    wrong = run(hostile, installed, fedkeras, "server", "--nonsense")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("fedkeras server: ") and "`fedkeras server --help`" in wrong.stderr
    wrong = run(hostile, installed, sys.executable, "-m", "fedkeras", "client", "--cid", "x")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("fedkeras client: --cid is 'x'; ")


OWN = ["--model", "mine:make", "--dataset", "mine:load", "--num-server-rounds", 1, "--num-partitions", 1]


@pytest.mark.slow
def test_a_run_from_the_wheel_with_a_client_process(installed: Path, hostile: Path) -> None:
    """Server and client find the user's model and data, and import none of the files that are not meant."""
    ended = run(hostile, installed, installed / "bin" / "fedkeras", "server", "--spawn", 1, "--port", 0, *OWN)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (folder,) = (hostile / "runs").iterdir()
    assert (folder / "model.keras").exists()


@pytest.mark.slow
def test_simulation_and_demo_from_the_wheel(installed: Path, hostile: Path) -> None:
    """Flower wants the folder of an app: there is none, and the wheel makes one."""
    fedkeras = installed / "bin" / "fedkeras"
    ended = run(hostile, installed, fedkeras, "simulate", *OWN)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (folder,) = (hostile / "runs").iterdir()
    assert (folder / "model.keras").exists()
    ended = run(hostile, installed, fedkeras, "demo", "--num-server-rounds", 1, "--run-dir", "demo")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "$ fedkeras client --cid 2 --server 127.0.0.1:" in ended.stdout


@pytest.mark.slow
def test_a_comparison_from_the_wheel(installed: Path, hostile: Path) -> None:
    flags = ["--num-partitions", 2, "--num-server-rounds", 1, "--arms", "centralised,fedavg", "--out", "compared"]
    ended = run(hostile, installed, installed / "bin" / "fedkeras", "compare", "digits", *flags)
    assert ended.returncode == 0, ended.stdout + ended.stderr


SAME = """
import importlib, pickle, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
for name in sys.argv[1:]:
    short = name.removeprefix("fedkeras.")
    for each in (short, short.partition(".")[0]):
        assert sys.modules[each] is sys.modules["fedkeras." + each], each
from data import ArraySource
from fedkeras import data
from fedkeras.data.source import ArraySource as Own
assert ArraySource is Own is data.ArraySource and Own.__module__ == "fedkeras.data.source"
"""


@pytest.mark.parametrize(
    "names",
    [
        ["data", "fedkeras.data"],
        ["fedkeras.data", "data"],
        ["data.npz", "fedkeras.data.npz"],
        ["fedkeras.data.readers.tables", "data.readers.tables"],
        ["strategies", "fedkeras.strategies", "strategies.krum", "fedkeras.strategies.krum"],
        ["fedkeras.strategies.krum", "strategies.krum"],
        ["client", "server", "fedkeras.server", "fedkeras.client"],
        ["fedkeras.server", "client", "server", "fedkeras.client"],
    ],
)
def test_a_short_name_is_the_same_module_in_a_checkout(tmp_path: Path, names: list[str]) -> None:
    ended = run(tmp_path, ROOT, sys.executable, "-c", SAME, *names)
    assert ended.returncode == 0, ended.stderr


def test_the_users_own_data_py_is_what_its_name_means(tmp_path: Path) -> None:
    """Whether Python finds it before ours or behind, as in `python CHECKOUT/server.py`; a mere folder is no module."""
    (tmp_path / "data.py").write_text("WHOSE = 'mine'\n")
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "notes.txt").write_text("no module")
    (tmp_path / "mine.py").write_text(
        "import sys, data, strategies, fedkeras.data, fedkeras.server\n"
        "print(data.WHOSE, strategies is fedkeras.strategies, fedkeras.server is sys.modules['__main__'])\n"
        "class Page: ...\n"
    )
    script = "import fedkeras.strategies, mine"
    first = run(tmp_path, ROOT, sys.executable, "-c", script)
    assert (first.returncode, first.stdout) == (0, "mine True False\n"), first.stderr
    behind = run(tmp_path, tmp_path, sys.executable, ROOT / "server.py", "--strategy", "mine:Page", "--port", 0)
    assert behind.stdout.splitlines()[-1:] == ["mine True True"], behind.stdout + behind.stderr
    unnamed = run(tmp_path, ROOT, sys.executable, ROOT / "server.py", "--strategy", "mine:Page", "--port", 0)
    assert unnamed.stdout.splitlines()[-1:] == ["mine True True"], unnamed.stdout + unnamed.stderr


@pytest.mark.parametrize("name", checkout.PROGRAMS)
def test_the_two_programs_are_commands_in_a_checkout_too(tmp_path: Path, name: str) -> None:
    """The same help, the same complaint, and the same name in front of it."""
    for flag in ("--help", "--nonsense"):
        program = run(tmp_path, ROOT, sys.executable, ROOT / f"{name}.py", flag)
        command = run(tmp_path, ROOT, sys.executable, "-m", "fedkeras", name, flag)
        assert (command.returncode, command.stdout, command.stderr) == (
            program.returncode, program.stdout, program.stderr
        )  # fmt: skip
        assert program.stdout.startswith(f"usage: {name}.py") or program.stderr.startswith(f"{name}.py: ")


def test_every_module_that_is_a_command_stands_in_the_table_with_its_flags() -> None:
    modules = [path for path in (ROOT / "fedkeras" / "commands").glob("*.py") if "\ndef main(" in path.read_text()]
    assert sorted(path.stem for path in modules) == sorted(COMMANDS)
    for name, command in COMMANDS.items():
        assert dataclasses.is_dataclass(completion.flags_of(name)), command.flags


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_the_shell_completes_commands_flags_and_values(tmp_path: Path) -> None:
    asked = [["fedkeras", "simu"], ["fedkeras", "server", "--num-p"], ["fedkeras", "data", "--partitioner", "di"]]
    script = run(tmp_path, ROOT, sys.executable, "-m", "fedkeras", "completion", "bash").stdout
    lines = [script, 'ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tyro_fedkeras; echo ${COMPREPLY[@]}; }']
    (tmp_path / "ask").write_text("\n".join([*lines, *(f"ask {' '.join(words)}" for words in asked)]))
    ended = run(tmp_path, ROOT, "bash", tmp_path / "ask")
    assert ended.stdout.splitlines() == ["simulate", "--num-partitions", "dirichlet"], ended.stderr
