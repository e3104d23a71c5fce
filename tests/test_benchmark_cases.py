"""The benchmarks' small cases: which there are, that README names all, and what a process that ends badly leaves."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import all as command
from benchmarks import case_run, result_file
from benchmarks.case import Case, Listed, quick_cases
from fedkeras.commands.process_tree import descendants
from fedkeras.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks"
TOYS = {
    "toy_fine": "print('a table')\nprint('{\"round_seconds\": 2.0}')",
    "toy_status": "import sys\nprint('{\"round_seconds\": 2.0}')\nsys.exit('no luck\\nat all')",
    "toy_words": "print('{\"round_seconds\": 2.0}')\nprint('the end')",
    "toy_hangs": "import subprocess, sys, time\nfrom pathlib import Path\nchild = subprocess.Popen(['sleep', '600'], "
    "start_new_session=True)\nPath(sys.argv[1]).write_text(str(child.pid))\ntime.sleep(600)",
}


@pytest.fixture
def toys(tmp_path, monkeypatch):
    """Modules of that name, which are benchmarks."""
    for name, text in TOYS.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    return tmp_path


def test_readme_names_every_benchmark_and_every_part_of_one() -> None:
    text = (FOLDER / "README.md").read_text()
    table = set(re.findall(r"^\| `(\w+)", text, re.MULTILINE))
    parts = set(re.findall(r"`(\w+)`", text[text.index("Parts of them") :]))
    files = {path.stem for path in FOLDER.glob("*.py")}
    files |= {path.name for path in FOLDER.iterdir() if path.is_dir() and path.name != "__pycache__"}
    with_cases = {listed.benchmark for listed in quick_cases().values()}
    assert table - {"python"} == with_cases, "what has a QUICK has a line in the table"
    assert parts == files - with_cases, "and what has none is named as a part"


def test_cases_can_be_run_and_fit_in_a_quarter_of_an_hour(tmp_path: Path) -> None:
    cases = quick_cases()
    assert [name for name, listed in cases.items() if listed.fault] == []
    assert sum(listed.case.times * (listed.case.seconds + 2) for listed in cases.values()) <= 15 * 60
    words = cases["client_dp"].case.words(tmp_path)
    assert words[-1] == str(tmp_path / "client_dp.svg")


def test_some_are_chosen_by_case_or_by_benchmark() -> None:
    cases = {name: Listed(f"benchmarks.{name.partition('-')[0]}", Case("", 1.0)) for name in ("a", "a-more", "b")}
    assert list(command.chosen(cases, "a")) == ["a", "a-more"]
    assert list(command.chosen(cases, "a-more, b")) == ["a-more", "b"]
    assert list(command.chosen(cases, "")) == list(cases)
    with pytest.raises(UserError, match="there is no 'c'; there are a, a-more, b"):
        command.chosen(cases, "a,c")


def test_whole_benchmarks_are_not_run_together(capsys) -> None:
    assert command.main([]) == 2
    assert "give --quick" in capsys.readouterr().err


def test_runs_of_a_case_are_spread_over_the_whole_time() -> None:
    cases = {"a": Listed("a", Case("", 1.0, times=3)), "b": Listed("b", Case("", 1.0))}
    assert [(name, number) for name, _, number in command.turns(cases)] == [("a", 1), ("b", 1), ("a", 2), ("a", 3)]


def test_a_process_has_figures_only_if_it_ends_well_and_says_them_last(toys) -> None:
    fine, status, words = (
        case_run.run(Listed(name, Case("", 1.0))) for name in ("toy_fine", "toy_status", "toy_words")
    )
    assert fine.figures == {"round_seconds": 2.0} and not fine.fault
    assert (status.figures, status.fault) == (None, "status 1: at all")
    assert words.figures is None and "'the end'" in words.fault


def test_at_its_limit_a_process_ends_with_all_that_it_has_started(toys) -> None:
    listed = Listed("toy_hangs", Case("{folder}/../toy-child", 600.0))
    child = toys / "child"
    outcome = case_run.run(Listed("toy_hangs", Case(str(child), 600.0)), limit=4.0)
    assert listed.case.limit == 3720.0 and outcome.fault == "was ended after 4 s"
    assert descendants([int(child.read_text())]) == set()


def test_what_fails_or_is_missing_is_said_and_the_others_run(toys, capsys) -> None:
    cases = {
        "bad": Listed("toy_status", Case("", 1.0)),
        "absent": Listed("toy_fine", Case("", 1.0, data=("no-such-data",))),
        "broken": Listed("toy_fine", Case("", 0.0), "cannot be imported: ImportError: no"),
        "good": Listed("toy_fine", Case("", 1.0)),
    }
    assert command.measure(cases, toys / "out.json") == 1
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (line["measured"], line["failed"], line["left_out"]) == (["good"], ["bad", "broken"], ["absent"])
    found = result_file.read(toys / "out.json")
    assert found["state"] == "finished" and found["cases"]["bad"]["runs"][0]["fault"] == "status 1: at all"
    assert result_file.figures(found["cases"]["good"]) == [{"round_seconds": 2.0}]
    (state, _) = result_file.states(found["cases"]["good"])
    assert all(len(values) == 5 and min(values) > 0 for values in state["yardsticks"].values())
    assert found["versions"]["tensorflow"] and found["machine"]["cores"] >= 1


def test_ctrl_c_keeps_what_there_is(toys) -> None:
    code = (
        "import sys; from pathlib import Path; from benchmarks import all; from benchmarks.case import Case, Listed\n"
        "cases = {'one': Listed('toy_fine', Case('', 1.0)), 'two': Listed('toy_hangs', Case(sys.argv[2], 1.0))}\n"
        "sys.exit(all.measure(cases, Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(toys / "out.json"), str(toys / "child")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not ((toys / "child").exists() and (toys / "child").read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert result_file.figures(result_file.read(toys / "out.json")["cases"]["one"]), "kill -9 too would leave it"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and json.loads(out.splitlines()[-1])["state"] == "interrupted"
    cases = result_file.read(toys / "out.json")["cases"]
    assert result_file.figures(cases["one"]) and cases["two"]["runs"] == []
    assert descendants([int((toys / "child").read_text())]) == set()


@pytest.mark.slow
def test_two_real_benchmarks_measured_twice_can_be_compared(tmp_path: Path) -> None:
    """What is exact is the same in both; whether times are judged depends on what else this machine does."""
    for name in ("old", "new"):
        command = [sys.executable, "-m", "benchmarks.all", "--quick", "--only", "secure_sums,many_clients"]
        done = subprocess.run(
            [*command, "--out", str(tmp_path / f"{name}.json")], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert "is not known" not in done.stdout, "every figure's better direction follows from its name"
    files = [str(tmp_path / f"{name}.json") for name in ("old", "new")]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.compare", *files], cwd=ROOT, capture_output=True, text=True, check=False
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert (
        done.returncode == int(bool(found["worse"])) and found["failed"] == found["missing"] == found["changed"] == []
    )
    (line,) = (line for line in done.stdout.splitlines() if "clients=30.beside_kb" in line)
    assert "x 1.000" in line and line.endswith("within noise"), line
    assert "clients=50.round_seconds" in done.stdout
