"""The house: what may import what, one meaning a class name, real types, one place that asks.

What is still otherwise stands in a list here that may only shrink.
"""

import ast
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from built_wheel import ROOT, unpacked_wheel

FILES = sorted(
    path
    for name in ("fedkeras", "data", "strategies", "server.py", "client.py")
    for path in ([ROOT / name] if name.endswith(".py") else (ROOT / name).rglob("*.py"))
    if not path.stem.endswith("_pb2")
)
"""All of the product that somebody has written."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked_wheel(tmp_path_factory.mktemp("wheel"))


def lint_imports(folder: Path) -> subprocess.CompletedProcess:
    """import-linter's verdict on the fedkeras in `folder`, by the contracts of pyproject.toml."""
    script = f"import sys; sys.path[0] = {str(folder)!r}; from importlinter import cli; cli.lint_imports_command()"
    command = [sys.executable, "-c", script, "--no-cache", "--config", str(ROOT / "pyproject.toml")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_every_storey_sees_those_below_it_alone(wheel: Path) -> None:
    ended = lint_imports(wheel)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "data.digits" not in ended.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("data/digits.py", "import fedkeras.learning"),
        ("runtime/wire.py", "import fedkeras.models"),
        ("federation/sampling.py", "import keras"),
        ("server.py", "import fedkeras.strategies.krum"),
        ("new_room.py", ""),
    ],
)
def test_a_breach_of_the_walls_is_seen(wheel: Path, module: str, line: str) -> None:
    """In a checkout, whose package has its path extended, import-linter would see none of these."""
    path = wheel / "fedkeras" / module
    before = path.read_text() if path.exists() else None
    try:
        path.write_text(f"{before or ''}\n{line}\n")
        ended = lint_imports(wheel)
    finally:
        path.unlink() if before is None else path.write_text(before)
    assert ended.returncode == 1
    assert f"fedkeras.{module.removesuffix('.py').replace('/', '.')}" in ended.stdout or not line


def test_a_class_name_stands_once() -> None:
    found = defaultdict(list)
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert {name: places for name, places in found.items() if len(places) > 1} == {}


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
GENERIC = {
    "Callable", "Collection", "Iterable", "Iterator", "Mapping", "Sequence",
    "dict", "frozenset", "list", "set", "tuple",
}  # fmt: skip


def test_public_functions_name_real_types() -> None:
    """No `object` but for a `value` to be looked at, and no list, tuple or table without what is in it.

    That an annotation is there, and is not Any, is ruff's to see (ANN).
    """
    found = defaultdict(list)
    for path in FILES:
        own = path.relative_to(ROOT)
        room = own.parts[1] if own.parts[0] == "fedkeras" else own.parts[0]
        for function in _public_functions(ast.parse(path.read_text()).body):
            for parameter, annotation in _annotations(function):
                for vague in _vague(annotation, parameter):
                    place = f"{own}:{annotation.lineno} {function.name}({parameter}): {vague}"
                    found[room].append(place)
    assert found == {}


def _public_functions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef]:
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _public_functions(node.body)
        elif isinstance(node, FUNCTIONS) and (not node.name.startswith("_") or node.name in ("__init__", "__call__")):
            yield node


def _annotations(function: ast.FunctionDef) -> Iterator[tuple[str, ast.expr]]:
    own = function.args
    for parameter in (*own.posonlyargs, *own.args, *own.kwonlyargs):
        if parameter.annotation:
            yield parameter.arg, parameter.annotation
    if function.returns:
        yield "return", function.returns


def _vague(annotation: ast.AST, parameter: str) -> Iterator[str]:
    """Names in an annotation that say nothing. `Mapping[str, object]` does: a table of anything, such as JSON's."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    if isinstance(annotation, ast.Name):
        if annotation.id in GENERIC or (annotation.id == "object" and parameter.lstrip("_") not in ("value", "")):
            yield annotation.id
    elif isinstance(annotation, ast.Subscript):
        inside = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        table = isinstance(annotation.value, ast.Name) and annotation.value.id in ("dict", "Mapping")
        for part in inside[:1] if table and getattr(inside[-1], "id", None) == "object" else inside:
            yield from _vague(part, parameter)
    else:
        for part in ast.iter_child_nodes(annotation):
            yield from _vague(part, parameter)


def test_the_way_to_train_is_asked_in_one_place() -> None:
    """Another way to train is a new folder of workflows/, and no `if` elsewhere."""
    own = ("fedkeras/config.py", "fedkeras/workflows/", "fedkeras/provisioning/")
    asks = re.compile(r"config\.(split|mode|data_source|collect_only|method)\b")
    found = Counter()
    for path in FILES:
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(own):
            found[name] += sum(1 for line in path.read_text().splitlines() if asks.search(line))
    assert {name: lines for name, lines in found.items() if lines} == {}
