"""The map and the country: README names every folder, and every folder's `__init__` names each of its files."""

import ast
import re
from pathlib import Path

import pytest

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
