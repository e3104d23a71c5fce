"""Several runs side by side, and the list of all runs."""

import json
import os

import pytest
from run_folders import make
from test_reports_html import Page

from fedkeras.commands import report, runs
from fedkeras.reports import held
from fedkeras.reports.listing import list_runs

A, B, C = "20260101-100000-a", "20260102-100000-b", "20260103-100000-c"


def test_a_page_holds_the_runs_figures_curves_and_what_differs(tmp_path, capsys):
    for name, how in ((A, {}), (B, {"strategy": "fedprox", "rounds": 2}), (C, {"ended": False, "extra": "<script>"})):
        make(tmp_path / name, **how)
    out = tmp_path / "c.html"
    assert report.main([*(str(tmp_path / name) for name in (A, B, C)), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    page = Page(out.read_text())
    assert page.open == [] and not page.tags["script"] and len(page.ids) == len(set(page.ids))
    assert sum(name.startswith("accuracy by round") for name in page.charts) == 3, "central, clients, training"
    rows = {row[0]: row[1:] for row in page.tables[""]}
    assert rows[A] == ["finished", "digits", "fedavg", "3", "central", "0.6667", "0.8333", "0.8333", "3", "30.0 s"]
    assert rows[B][2:4] == ["fedprox", "2"] and rows[C][0] == "unfinished" and rows[C][-1] == "–"
    assert rows["strategy"] == ["fedavg", "fedprox", "fedavg"] and rows["num-server-rounds"] == ["3", "2", "3"]
    assert "seed" not in rows, "what is the same in all is left out"
    assert "do not compare" not in page.words[""]
    assert "A run is one seed, so that no difference here is told from chance" in page.words[""]


def test_runs_judged_on_different_test_sets_are_not_to_be_compared(tmp_path):
    make(tmp_path / A)
    other = make(tmp_path / B)
    lines = other.history_path.read_text().splitlines(keepends=True)
    other.history_path.write_text("".join(line for line in lines if ",server," not in line))
    make(tmp_path / C, dataset="mnist")
    for second in (B, C):
        report.main([str(tmp_path / A), str(tmp_path / second), "--out", str(tmp_path / "c.html")])
        assert "do not compare" in Page((tmp_path / "c.html").read_text()).words[""]


def test_without_out_it_is_written_here_and_a_run_may_come_twice(tmp_path, monkeypatch):
    make(tmp_path / "x" / A)
    make(tmp_path / "y" / A)
    monkeypatch.chdir(tmp_path)
    assert report.main([f"x/{A}", f"y/{A}"]) == 0
    assert f"{A} (2)" in (tmp_path / "comparison.html").read_text()


@pytest.fixture
def parent(tmp_path):
    make(tmp_path / A)
    make(tmp_path / C, ended=False, rounds=2)
    (make(tmp_path / B).summary_path).write_text("{")
    (tmp_path / "no run").mkdir()
    (tmp_path / "file").touch()
    return tmp_path


def test_runs_are_listed_newest_first_and_a_broken_one_is_no_end(parent, capsys):
    assert runs.main([str(parent)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", "status", "data", "set", "strategy", "rounds", "best", "in", "round", "seconds"]
    assert lines[1].split() == [C, "unfinished", "digits", "fedavg", "2", "0.7500", "2", "-"]
    assert lines[2].startswith(B) and "broken" in lines[2] and "summary.json is damaged" in lines[2]
    assert lines[3].split() == [A, "finished", "digits", "fedavg", "3", "0.8333", "3", "30.0"]
    assert len(lines) == 4 and len(lines[0]) == len(lines[1]) == len(lines[3])


def test_json_holds_the_same_and_more(parent, capsys):
    assert runs.main([str(parent), "--json"]) == 0
    newest, broken, oldest = json.loads(capsys.readouterr().out)
    assert (newest["name"], newest["status"], newest["best_accuracy"]) == (C, "unfinished", 0.75)
    assert broken["status"] == "broken" and "damaged" in broken["fault"]
    assert oldest["started"] == "2026-01-01T10:00:00" and oldest["loss"] == pytest.approx(2 / 3)


def test_a_split_run_is_called_by_its_mode(tmp_path):
    make(tmp_path / A, split="splitfed")
    assert list_runs(tmp_path)[0].figures["strategy"] == "split: splitfed"


@pytest.mark.skipif(os.name == "nt", reason="no flock")
def test_a_run_at_work_is_running(tmp_path):
    folder = make(tmp_path / A, ended=False)
    with held(folder):
        assert list_runs(tmp_path)[0].status == "running"
    assert list_runs(tmp_path)[0].status == "unfinished"


def test_an_empty_or_missing_folder_is_said(tmp_path, capsys):
    assert runs.main([str(tmp_path)]) == 0 and "there is no run in" in capsys.readouterr().out
    assert runs.main([str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
