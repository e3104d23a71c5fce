"""Every notebook runs from its first cell to its last, and what is kept of it reads well on any machine."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from notebooks import execute

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SECONDS = 240
READS_ONCE = "reading the original files, once"  # what a loader says on stderr the first time, and should
OF_A_MACHINE = re.compile(
    r"/work\b|/tmp\b|/home/|/root\b|/Users/|/var/folders|\b[A-Z]:\\|site-packages|\.venv|ipykernel_\d| at 0x[0-9a-f]"
)

LONGEST = {"00": 15}
"""Lines of a cell in the notebook that begins with nothing; in all others:"""
LONGEST_ELSEWHERE = 25
WITH_EXERCISES = ("00", "02", "04", "05", "07", "08")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where data that were parsed once are kept, for all notebooks."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def checkout_untouched() -> Iterator[None]:
    """Fails a test that leaves something in the notebooks' folder."""
    before = _files()
    yield
    assert _files() == before


def _files() -> set[Path]:
    return {path for path in FOLDER.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


def run(path: Path, folder: Path, cache: Path, data: Path) -> nbformat.NotebookNode:
    """The notebook after a run with small settings in `folder`."""
    env = {key: value for key, value in os.environ.items() if key not in ("FULL", "MPLBACKEND")}
    own = {
        "FEDKERAS_DATA": data,
        "FEDKERAS_CACHE": cache,
        "IPYTHONDIR": folder / "ipython",
        "FLWR_TELEMETRY_ENABLED": 0,
    }
    notebook = nbformat.read(path, as_version=4)
    work = folder / "work"
    work.mkdir()
    execute.run(notebook, work, env | {key: str(value) for key, value in own.items()}, SECONDS)
    return notebook


@pytest.mark.slow
@each_notebook
def test_it_runs_without_the_data(path: Path, tmp_path: Path, cache: Path, checkout_untouched: None) -> None:
    empty = tmp_path / "no-data"
    empty.mkdir()
    check_a_run(run(path, tmp_path, cache, empty))


@pytest.mark.slow
@each_notebook
def test_it_runs_on_a_part_of_the_data(path: Path, tmp_path: Path, cache: Path, checkout_untouched: None) -> None:
    folder = Path(os.environ.get("FEDKERAS_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data; set FEDKERAS_DATA to the folder with mnist/, femnist/ and motionsense/")
    check_a_run(run(path, tmp_path, cache, folder))


def check_a_run(notebook: nbformat.NotebookNode) -> None:
    """All code cells ran, with no error, and none wrote a warning for a reader to wonder at."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert any(output.output_type in ("stream", "display_data", "execute_result") for output in outputs)
    assert [output for output in outputs if output.output_type == "error"] == []
    said = "".join(output.text for output in outputs if output.get("name") == "stderr").splitlines()
    assert [line for line in said if READS_ONCE not in line] == []


def test_the_readme_lists_every_notebook() -> None:
    listed = re.findall(r"\]\((\w+\.ipynb)\)", (FOLDER / "README.md").read_text())
    assert listed
    assert listed == [path.name for path in NOTEBOOKS]


@each_notebook
def test_it_opens_with_what_it_shows_and_how_long_it_takes(path: Path) -> None:
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    assert re.search(r"\*\*What it shows[.:]?\*\*", first.source), first.source
    assert re.search(r"\*\*How long it takes[.:]?\*\*.*\d+ (s|seconds?|min|minutes?)\b", first.source), first.source


@each_notebook
def test_outputs_are_kept(path: Path) -> None:
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run notebooks/execute.py"
    silent = [cell.source for cell in code if re.search(r"\b(print|display|show)\(", cell.source) and not cell.outputs]
    # what is printed inside a function that the cell only defines appears where it is called
    assert [source for source in silent if not re.search(r"^def ", source, re.MULTILINE)] == []
    outputs = [output for cell in code for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)


@each_notebook
def test_nothing_in_it_belongs_to_a_machine(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata == execute.METADATA
    for cell in notebook.cells:
        assert set(cell.metadata) <= set(execute.KEPT)
        texts = [cell.source]
        for output in cell.get("outputs", []):
            texts += [output.get("text", "")]
            texts += [str(value) for kind, value in output.get("data", {}).items() if kind.startswith("text/")]
        for text in texts:
            assert OF_A_MACHINE.search(text) is None, text


@each_notebook
def test_it_is_small_enough_to_read_in_a_browser(path: Path) -> None:
    assert path.stat().st_size < 1.5e6


@each_notebook
def test_a_cell_can_be_read_at_one_look(path: Path) -> None:
    longest = LONGEST.get(path.name[:2], LONGEST_ELSEWHERE)
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.source for cell in code if len(cell.source.splitlines()) > longest] == []


@each_notebook
def test_a_figure_is_drawn_and_shown_in_one_cell(path: Path) -> None:
    """Jupyter shows a figure when the cell ends that began it: what the next one draws on it is lost."""
    code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [source for source in code if ("plt.subplots(" in source) != ("plt.show()" in source)] == []


@pytest.mark.parametrize("number", WITH_EXERCISES)
def test_every_exercise_has_a_solution_that_was_run(number: str) -> None:
    (path,) = FOLDER.glob(f"{number}_*.ipynb")
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    asked, answers = text.split("\n## Exercises\n")[1].split("\n## Solutions\n")
    exercises, solutions = (
        re.findall(r"^(\d)\. \*\*", asked, re.MULTILINE),
        re.findall(r"^\*\*(\d)\.\*\*", answers, re.MULTILINE),
    )
    assert len(exercises) >= 2
    assert exercises == solutions == [str(n + 1) for n in range(len(exercises))]
    assert re.findall(r"\((\d+) min\)", asked), "a teacher plans by minutes"
    solved = [cell for cell in cells if "solution" in cell.metadata.get("tags", ())]
    assert len(solved) == len(exercises)
    for cell in solved:
        assert cell.metadata.jupyter == {"source_hidden": True, "outputs_hidden": True}
        assert cell.outputs


@each_notebook
def test_only_solutions_are_folded(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        assert ("jupyter" in cell.metadata) == ("solution" in cell.metadata.get("tags", ()))


def test_the_first_federation_and_fedkeras_agree_to_the_bit() -> None:
    (path,) = FOLDER.glob("00_*.ipynb")
    outputs = [output for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", ())]
    text = "".join(output.get("text", "") for output in outputs)
    assert "0 of 15010 final weights differ; the largest difference is 0\n" in text
