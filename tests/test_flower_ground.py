"""Flower's public face is used everywhere, its internals in two files, and docs/compatibility.md names each of them."""

import ast
import importlib.metadata
import importlib.util
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import pytest

from fedkeras import client

ROOT = Path(__file__).resolve().parents[1]
INTERNALS = "fedkeras/flower/internals.py"
RUNTIME_API = "fedkeras/flower/runtime_api.py"
"""What an executor of a SuperNode needs; nothing but `fedkeras supernode` imports it."""
PUBLIC = ("flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.simulation")
DOCUMENT = (ROOT / "docs" / "compatibility.md").read_text()


def product() -> Iterator[Path]:
    """The product's Python files."""
    yield from (ROOT / "server.py", ROOT / "client.py")
    for package in ("fedkeras", "data", "strategies"):
        yield from (ROOT / package).rglob("*.py")


def imported(source: str) -> set[str]:
    """Full names of all that a source imports, wherever in it: `flwr.app.Message`, or `flwr` for `import flwr`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def of_flower(source: str) -> set[str]:
    """What a source imports of Flower beyond its public face."""
    names = {name for name in imported(source) if name.split(".")[0] == "flwr"}
    return {name for name in names if not any(name.startswith(f"{module}.") for module in PUBLIC)}


def used_internals(path: Path) -> set[str]:
    """Names of internals.py that a file uses."""
    source = path.read_text()
    names = imported(source)
    used = {name.rpartition(".")[2] for name in names if name.startswith("fedkeras.flower.internals.")}
    if "fedkeras.flower.internals" in names:
        used |= set(re.findall(r"\binternals\.(\w+)", source))
    return used


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading of the document, without its head."""
    section = DOCUMENT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert len(lines) > 2, f"docs/compatibility.md has no table under '{heading}'"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_flowers_internals_are_imported_in_two_files() -> None:
    found = {path.relative_to(ROOT).as_posix(): of_flower(path.read_text()) for path in product()}
    elsewhere = {
        name: internals for name, internals in found.items() if internals and name not in (INTERNALS, RUNTIME_API)
    }
    assert not elsewhere, f"import it in {INTERNALS}, and name it in docs/compatibility.md"
    assert found[INTERNALS] and found[RUNTIME_API]


@pytest.mark.parametrize("line", ["import flwr", "import flwr.common", "def f():\n    from flwr.server import Driver"])
def test_such_an_import_would_be_found(line: str) -> None:
    assert of_flower(line)
    assert not of_flower("from flwr.app import Message\nfrom flwr.serverapp.strategy import Strategy")


def test_the_document_names_each_internal_and_who_uses_it() -> None:
    table = {name.strip("`"): set(re.findall(r"`([^`]+)`", files)) for name, _, files, _ in rows("Internals")}
    found: dict[str, set[str]] = {}
    for path in product():
        for name in used_internals(path):
            found.setdefault(name, set()).add(path.relative_to(ROOT).as_posix())
    assert table == found


def test_the_document_names_where_each_internal_comes_from() -> None:
    named = set(re.findall(r"`(flwr\.[\w.]+)`", " ".join(cell for _, cell, _, _ in rows("Internals"))))
    assert named == of_flower((ROOT / INTERNALS).read_text())


def test_the_document_names_what_the_runtime_api_is_made_of() -> None:
    named = set(re.findall(r"`(flwr\.[\w.]+)`", " ".join(row[0] for row in rows("The Runtime API of a SuperNode"))))
    assert named == of_flower((ROOT / RUNTIME_API).read_text())


def test_nobody_who_starts_no_supernode_needs_the_runtime_api() -> None:
    """Else a newer Flower, which this does not know, would keep everything from starting."""
    own = {"executor", "executor_process", "warm_supernode", "supernode", "supernode_executor"}
    assert {path.stem for path in product() if "runtime_api" in " ".join(imported(path.read_text()))} == own


def test_the_document_names_each_variable_of_flowers_commands() -> None:
    named = set(re.findall(r"FLWR_\w+", " ".join(row[0] for row in rows("Commands and variables"))))
    assert named == {name for path in product() for name in re.findall(r"\bFLWR_[A-Z_]+", path.read_text())}


def test_the_versions_it_ran_with_are_those_of_pyproject() -> None:
    """Each is within what pyproject.toml allows; a pin that is raised must be tried, and the table with it."""
    from packaging.requirements import Requirement

    wanted = {one.name: one for one in map(Requirement, importlib.metadata.requires("fedkeras")) if not one.marker}
    ran = {name: version for name, version, _ in rows("Versions it ran with")}
    assert {"flwr", "ray", "grpcio", "protobuf", "tensorflow", "keras", "numpy", "Python"} <= ran.keys()
    for name in ran.keys() & wanted.keys():
        assert wanted[name].specifier.contains(ran[name]), f"{name} {ran[name]}"


def test_the_client_app_travels_as_its_name():
    """Flower pickles a ClientApp by value for each of Ray's actors; a thousand messages would carry our code."""
    assert len(cloudpickle.dumps(client.app)) < 1000
    assert pickle.loads(cloudpickle.dumps(client.app)) is client.app


@pytest.mark.parametrize("name", ["client", "server", "fedkeras.client", "fedkeras.server"])
def test_flower_finds_an_apps_file_before_it_imports_it(name):
    """It reads there whether the file assigns `app`, under a checkout's short names too."""
    origin = importlib.util.find_spec(name).origin
    assert origin is not None and Path(origin) == ROOT / f"{name.rpartition('.')[2]}.py"
    assigned = [node for node in ast.parse(Path(origin).read_text()).body if isinstance(node, ast.Assign)]
    assert "app" in {target.id for node in assigned for target in node.targets if isinstance(target, ast.Name)}
