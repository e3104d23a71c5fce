"""What runs the notebooks: the right Python, a limit in time, and nothing of this machine in what is kept."""

import sys
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

from notebooks import execute


def run(folder: Path, *sources: str, seconds: float = 60, **env: str) -> nbformat.NotebookNode:
    """A notebook of these cells after its run."""
    notebook = new_notebook(cells=[new_code_cell(source) for source in sources], metadata={"widgets": {"state": {}}})
    execute.run(notebook, folder, {"HOME": str(Path.home()), "IPYTHONDIR": str(folder), **env}, seconds)
    return notebook


def test_a_fresh_kernel_of_this_python_in_the_folder_and_environment_told(tmp_path: Path) -> None:
    source = "import os, sys; print(sys.executable, os.getcwd(), os.environ['FULL'], sep='\\n')"
    (output,) = run(tmp_path, source, FULL="2").cells[0].outputs
    assert output.text.splitlines() == [sys.executable, str(tmp_path), "2"]


def test_a_cell_that_fails_ends_it(tmp_path: Path) -> None:
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        run(tmp_path, "1 / 0", "print('not reached')")


def test_the_limit_is_for_all_cells_together(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError):
        run(tmp_path, *["import time; time.sleep(2)"] * 4, seconds=5)


def test_what_belongs_to_this_machine_is_taken_out(tmp_path: Path) -> None:
    shown = f"import sys; print('out'); print('err', file=sys.stderr); print({str(execute.FOLDER)!r} + '/saved')"
    notebook = run(tmp_path, shown, "from pathlib import Path; Path.home() / 'x'", "3")
    notebook.cells[2].metadata = {"tags": ["kept"], "collapsed": True}
    assert execute.clean(notebook) == ["err\n"]
    assert notebook.metadata == execute.METADATA
    assert [output.text for output in notebook.cells[0].outputs] == ["out\n./saved\n"]
    assert notebook.cells[1].outputs[0].data["text/plain"] == "PosixPath('~/x')"
    assert notebook.cells[2].metadata == {"tags": ["kept"]}
    assert notebook.cells[2].outputs[0].data["text/plain"] == "3"


def test_outputs_of_stand_ins_are_not_kept(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.delenv("FEDKERAS_DATA", raising=False)
    monkeypatch.setattr("sys.argv", ["execute.py"])
    with pytest.raises(SystemExit, match="2"):
        execute.main()
    assert "FEDKERAS_DATA is not set" in capsys.readouterr().err
