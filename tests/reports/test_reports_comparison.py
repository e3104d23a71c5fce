"""Several runs side by side, and the list of all runs."""

import json
import os

import pytest
from run_folders import make
from test_reports_html import Page

from fedkeras.commands import report, runs
from fedkeras.config import Config
from fedkeras.reports import RunFolder, held
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
    assert rows[A] == ["0.8333", "0.8333", "3", "0.6667", "finished", "digits", "fedavg", "3", "central", "30.0 s"]
    assert rows[B][6:8] == ["fedprox", "2"] and rows[C][4] == "unfinished" and rows[C][-1] == "–"
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
    assert len(lines) == 4 and len(lines[0]) == len(lines[1]) == len(lines[3]), "aligned"


def refused(parent):
    """The folder of a run that ended before its first round."""
    folder = RunFolder(parent / "20260105-100000-refused")
    folder.path.mkdir()
    folder.write_config(Config())
    return folder


def test_on_a_terminal_of_80_columns_lines_fit_it(parent, capsys, monkeypatch):
    make(parent / "20260104-100000-a-run-whose-name-is-so-long-that-no-terminal-would-take-the-line-whole")
    monkeypatch.setattr("fedkeras.commands.runs.terminal_width", lambda: 80)
    assert runs.main([str(parent)]) == 0
    titles, long, newest, *_ = capsys.readouterr().out.splitlines()
    assert max(len(titles), len(long), len(newest)) <= 80
    assert titles.split() == ["run", "status", "rounds", "best", "seconds"]
    assert long.split() == ["20260104-100000-a-run…d-take-the-line-whole", "finished", "3", "0.8333", "30.0"]
    assert newest.split() == [C, "unfinished", "2", "0.7500", "-"]


def test_what_never_began_is_left_out_and_pruned_when_asked(parent, capsys, monkeypatch):
    never = refused(parent)
    never.write_summary({"status": "failed"})
    assert runs.main([str(parent)]) == 0
    assert "refused" not in (out := capsys.readouterr().out) and "1 run ended before the first round" in out
    assert runs.main([str(parent), "--all"]) == 0 and "refused" in capsys.readouterr().out
    for answer, gone in (("", False), ("n", False), ("Y", True)):
        monkeypatch.setattr("builtins.input", lambda question, answer=answer: answer)
        assert runs.main([str(parent), "--prune"]) == 0
        assert never.path.exists() != gone
    assert "deleted 1 folder" in capsys.readouterr().out and (parent / A).exists() and (parent / B).exists()
    assert runs.main([str(parent), "--prune"]) == 0 and "nothing to prune" in capsys.readouterr().out


def test_what_clients_have_delivered_is_never_pruned(parent, capsys):
    """A collecting run that was interrupted has no figures yet, and its clients have let their models go."""
    delivered = refused(parent).path / "clients" / "0"
    delivered.mkdir(parents=True)
    (delivered / "model.keras").write_bytes(b"trained")
    assert runs.main([str(parent), "--prune", "--yes"]) == 0
    assert (delivered / "model.keras").exists() and "nothing to prune" in capsys.readouterr().out


def test_prune_without_a_terminal_says_what_to_do(parent, capsys, monkeypatch):
    never = refused(parent)
    monkeypatch.setattr("builtins.input", lambda _: (_ for _ in ()).throw(EOFError))
    assert runs.main([str(parent), "--prune"]) == 2
    assert capsys.readouterr().err.count("--yes deletes without asking") == 1
    assert runs.main([str(parent), "--prune", "--yes"]) == 0 and not never.path.exists()


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
