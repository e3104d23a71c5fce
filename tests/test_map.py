"""The map and the country: README names every folder, and every folder's `__init__` names each of its files."""

import ast
import re
from pathlib import Path

import pytest

from fedkeras import strategies
from fedkeras.commands.aggregate import AggregateFlags
from fedkeras.config import Config
from fedkeras.federation import registry
from fedkeras.fields import setting_of
from fedkeras.strategy_names import OFFLINE, STRATEGIES

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = sorted(
    path.parent
    for place in ("fedkeras", "data", "strategies")
    for path in (ROOT / place).rglob("__init__.py")
    if "__pycache__" not in path.parts
)
FACES = ("__init__", "__main__")


def named(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def modules(package: Path) -> list[str]:
    files = [path.stem for path in package.glob("*.py") if path.stem not in FACES]
    return sorted(files + [path.parent.name for path in package.glob("*/__init__.py")])


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_packages_docstring_names_each_of_its_files(package: Path) -> None:
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    assert [name for name in modules(package) if not named(text, name)] == []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_packages_docstring_names_no_file_that_is_gone(package: Path) -> None:
    """A line of the map begins with names of files, four blanks in, and two blanks or more before what they are."""
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    lines = [match[1].split() for match in re.finditer(r"^    (\w[\w ]*?\w)(?:  |$)", text, re.MULTILINE)]
    known = {*modules(package), "server", "client"}
    wrong = [words for words in lines if set(words) & known and not set(words) <= known]
    assert wrong == []


def test_readme_names_every_folder() -> None:
    text = (ROOT / "README.md").read_text()
    section = text[text.index("## How it is built") :]
    folders = [package.relative_to(ROOT).as_posix() for package in PACKAGES if package.name != "fedkeras"]
    assert [folder for folder in folders if f"({folder}/)" not in section] == []
    assert [found for found in re.findall(r"\]\(([a-z/_]+)/\)", section) if not (ROOT / found).is_dir()] == []


# The strategies' names


@pytest.mark.parametrize(
    ("path", "start", "end"),
    [
        ("README.md", "- **Strategy**:", "or any of Flower's"),
        ("docs/strategies.md", "| `--strategy` | what it does", "| `package.module:Class`"),
    ],
)
def test_documents_name_every_strategy_and_no_other(path: str, start: str, end: str) -> None:
    text = (ROOT / path).read_text()
    begin = text.index(start) + len(start)
    part = text[begin : text.index(end, begin)]
    cells = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")] or [part]
    found = [name for cell in cells for name in re.findall(r"`([a-z_]+)`", cell)]
    assert sorted(found) == sorted(STRATEGIES)


def test_the_pages_docstring_names_every_strategy() -> None:
    assert [name for name in STRATEGIES if not named(strategies.__doc__, name)] == []


def test_help_names_them_all_and_offline_those_that_move_no_global_model() -> None:
    fields = [kind.__dataclass_fields__["strategy"] for kind in (Config, AggregateFlags)]
    assert [setting_of(field).names for field in fields] == [tuple(STRATEGIES), OFFLINE]
    for name, page in STRATEGIES.items():
        assert registry.load(name).moves_global_model != page.offline, name
