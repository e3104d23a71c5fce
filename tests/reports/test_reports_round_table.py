"""failures.csv and timing.csv: written by the recorder, cut by a resume, readable after kill -9."""

import json

import numpy as np
import pytest
from test_reports_recorder import folder, outcome, record  # noqa: F401 - `folder` is a fixture

from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.reports import Recorder, held, recorder, resuming, section, write_label_counts, write_predictions
from fedkeras.reports.checkpoints import Checkpoint
from fedkeras.reports.grids import MOST_CELLS, shrink
from fedkeras.reports.history import FAILURES, TIMING
from fedkeras.reports.label_counts import read_label_counts
from fedkeras.reports.timing import breakdown

REASON = 'died, "loudly"\nand at once'


def test_a_run_leaves_its_failures_times_and_report(folder):  # noqa: F811
    with held(folder):  # as the server does: it is over all the same
        record(folder, [outcome(number, failures={2: REASON} if number == 2 else {}) for number in (1, 2, 3)])
    assert FAILURES.read(folder.failures_path) == [{"round": 2, "client": "2", "reason": 'died, "loudly" and at once'}]
    rows = TIMING.read(folder.timing_path)
    assert [row["round"] for row in rows] == [1, 2, 3] and rows[0]["training"] == 0.5 and "evaluation" not in rows[0]
    assert "<!doctype html>" in folder.report_path.read_text()
    assert 'class="badge finished"' in folder.report_path.read_text()


def test_an_interrupted_run_has_a_report_too(folder):  # noqa: F811
    with pytest.raises(KeyboardInterrupt), Recorder(folder, Config(), live=False) as each:
        each.on_round_end(outcome(1))
        raise KeyboardInterrupt
    assert 'class="badge interrupted"' in folder.report_path.read_text()


def test_a_report_has_what_the_workflow_adds_and_does_without_if_that_fails(folder, caplog):  # noqa: F811
    rounds, sections = [], lambda: [section("Privacy", [f"{len(rounds)} rounds were counted"])]
    with Recorder(folder, Config(), live=False, sections=sections) as each:
        assert each.on_round_end(outcome(1)) is False
        rounds.append(1)
        each.finish()
    assert "1 rounds were counted" in folder.report_path.read_text() and "lacks" not in caplog.text
    with pytest.raises(KeyboardInterrupt), Recorder(folder, Config(), live=False, sections=lambda: 1 / 0):
        raise KeyboardInterrupt
    assert "lacks its additional sections: ZeroDivisionError" in caplog.text
    text = folder.report_path.read_text()
    assert 'class="badge interrupted"' in text and "rounds were counted" not in text


def test_a_report_that_cannot_be_drawn_is_a_warning(folder, monkeypatch, caplog):  # noqa: F811
    def fail(_folder, **_more):
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(recorder, "write_report", fail)
    summary = record(folder, [outcome(1)])
    assert summary["status"] == "finished" and json.loads(folder.summary_path.read_text()) == summary
    assert "by nought" in caplog.text and "python -m fedkeras report" in caplog.text


def test_a_torn_line_is_dropped_and_cut_off_before_the_next(tmp_path):
    path = tmp_path / "failures.csv"
    FAILURES.append(path, [{"round": 1, "client": "0", "reason": "late"}])
    with path.open("a") as file:
        file.write("2,1,hal")
    assert len(FAILURES.read(path)) == 1
    FAILURES.append(path, [{"round": 3, "client": "2", "reason": "late"}])
    assert [row["round"] for row in FAILURES.read(path)] == [1, 3]


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "round,client,reason\nx,0,late\n", "round,client,reason\n1,0\n", ""])
def test_a_damaged_table_is_one_clear_line(tmp_path, text):
    path = tmp_path / "failures.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=r"failures.csv.*damaged"):
        FAILURES.read(path)


def test_what_is_resumed_is_computed_again(folder):  # noqa: F811
    record(folder, [outcome(number, failures={2: "late"}) for number in (1, 2, 3)])
    write_predictions(folder.predictions_path, [0], [0], ["a", "b"])
    resuming.go_back(folder, Config(), Checkpoint(2, {}, history_rows=14))
    assert not folder.predictions_path.exists() and not folder.summary_path.exists()
    assert [row["round"] for row in FAILURES.read(folder.failures_path)] == [1, 2]
    assert [row["round"] for row in TIMING.read(folder.timing_path)] == [1, 2]
    resuming.go_back(folder, Config(), None)
    assert FAILURES.read(folder.failures_path) == TIMING.read(folder.timing_path) == []


def test_processes_that_share_clients_compute_longer_than_the_slowest():
    rows = [{"round": 1, "phase": "train", "client": str(cid), "seconds": 2.0} for cid in range(6)]
    timing = [{"round": 1, "training": 7.0, "evaluation": 1.0}]
    assert breakdown(timing, rows)[0]["training"] == 2.0
    (line,) = breakdown(timing, rows, processes=2)
    assert (line["training"], line["transfer"], line["waiting"], line["evaluation"]) == (6.0, 1.0, 0.0, 1.0)


def test_large_maps_are_means_of_neighbours():
    values = np.arange(2.0 * MOST_CELLS * 3).reshape(3, -1)
    values[0, :2] = np.nan
    values[1, 0] = np.nan
    small = shrink(values, 1)
    assert small.shape == (3, MOST_CELLS) and np.isnan(small[0, 0])
    assert small[1, 0] == values[1, 1] and small[2, 1] == values[2, 2:4].mean()
    assert shrink(values, 0) is values


def test_label_counts_come_back_and_predictions_must_fit(tmp_path):
    write_label_counts(tmp_path / "p.json", 'by "sex"', ["é", "b"], {0: np.array([1, 2]), 7: np.array([0, 3])})
    found = read_label_counts(tmp_path / "p.json")
    assert (found.scheme, found.clients, found.classes) == ('by "sex"', ("0", "7"), ("é", "b"))
    assert found.counts.tolist() == [[1, 2], [0, 3]]
    assert json.loads((tmp_path / "p.json").read_text())["clients"]["7"] == [0, 3]
    for labels, predicted in (([0, 2], [0, 1]), ([0], [0, 1]), ([0.5], [1]), ([], []), ([-1], [0])):
        with pytest.raises(ValueError, match="must"):
            write_predictions(tmp_path / "x.npz", labels, predicted, ["a", "b"])
