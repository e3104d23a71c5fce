"""`fedkeras history`: a run's figures as CSV, JSON, Markdown, and as the lists that Flower's History kept."""

import csv
import io
import json
import math

import pytest
from run_folders import make

from fedkeras.commands.history import main
from fedkeras.reports import History, read_rows
from fedkeras.reports.export import flower


@pytest.fixture
def folder(tmp_path):
    """Two rounds; in the second the central loss is no number."""
    folder = make(tmp_path / "run", rounds=1, clients=2, extra="f1")
    row = {"round": 2, "phase": "evaluate", "client": "server", "num_examples": 30, "loss": math.nan, "accuracy": 0.1}
    History(folder.history_path).append([row])
    return folder


def printed(capsys, *args):
    assert main([str(arg) for arg in args]) == 0
    return capsys.readouterr().out


def test_markdown_has_a_row_a_round(folder, capsys):
    assert printed(capsys, folder.path).splitlines() == [
        "| round | loss (central) | accuracy (central) | loss (clients) | accuracy (clients) | loss (training) | "
        "accuracy (training) |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| 1 | 2.0000 | 0.5000 | 2.0000 | 0.5000 | 2.0000 | 0.5000 |",
        "| 2 | - | 0.1000 | - | - | - | - |",
    ]


def test_csv_and_json_hold_every_row(folder, capsys):
    table = list(csv.DictReader(io.StringIO(printed(capsys, folder.path, "--format", "csv"))))
    rows = json.loads(printed(capsys, folder.path, "--format", "json"))
    assert len(table) == len(rows) == len(read_rows(folder.history_path)) == 8
    assert table[0] | {"f1": "0.5", "client": "0", "loss": "2.0"} == table[0]
    assert rows[0] | {"round": 1, "client": "0", "f1": 0.5} == rows[0] and rows[-1]["loss"] is None


def test_flowers_lists_go_by_round_and_can_be_pasted(folder, capsys):
    names: dict = {}
    exec(printed(capsys, folder.path, "--format", "flower"), names)
    assert names["losses_distributed"] == [(1, 2.0)]
    assert names["losses_centralized"] == [(1, 2.0), (2, None)]
    assert names["metrics_distributed"] == {"accuracy": [(1, 0.5)]}
    assert names["metrics_centralized"] == {"accuracy": [(1, 0.5), (2, 0.1)]}
    assert names["metrics_distributed_fit"] == {"loss": [(1, 2.0)], "accuracy": [(1, 0.5)]}
    assert not any(flower([]).values())


def test_out_writes_a_file_and_prints_its_name(folder, tmp_path, capsys):
    out = tmp_path / "table.md"
    assert printed(capsys, folder.path, "--out", out) == f"{out}\n"
    assert out.read_text().startswith("| round | loss (central)")


def test_what_is_no_run_is_refused_in_a_line(tmp_path, capsys):
    assert main([str(tmp_path / "nothing")]) == 2
    assert main([str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "there is no folder" in lines[0] and "is this the folder of a run?" in lines[1]
