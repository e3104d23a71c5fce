"""CSV that others open: formulas are marked as texts, and come back as they were."""

import pytest

from fedkeras import csv_text
from fedkeras.reports.history import FAILURES, History, read_rows


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", " =1", "-inf", "＝1", "'=1", "''@x"]
)
def test_a_formula_is_marked_and_read_back(text):
    line = csv_text.text_of([["a", text]])
    assert line.partition(",")[2].lstrip('"').startswith("'")
    assert csv_text.cells_of(line.rstrip("\n")) == ["a", text]


@pytest.mark.parametrize("cell", [-0.5, -3, "-0.5", "+1e-3", "loss", "'quoted'", "a=b", ""])
def test_numbers_and_other_texts_stay_as_they_are(cell):
    line = csv_text.text_of([["a", cell]])
    assert line == f"a,{cell}\n" and csv_text.cells_of(line.rstrip("\n")) == ["a", str(cell)]


def test_a_clients_own_table_is_marked_as_well():
    assert csv_text.defused(b'epoch,=cmd()\r\n1,-0.5\r\n2,"@x,y"\r\n') == b"epoch,'=cmd()\n1,-0.5\n2,\"'@x,y\"\n"
    with pytest.raises(ValueError, match="is no CSV file"):
        csv_text.defused(b"\xff\xfe")


def test_a_metric_called_like_a_formula_is_one_column_for_the_whole_run(tmp_path):
    """In the file it is marked; the history that goes on with the file knows it by its name."""
    path, row = tmp_path / "history.csv", {"round": 1, "phase": "train", "client": "0", "num_examples": 3, "=1+1": -2.5}
    History(path).append([row])
    History(path).append([row])
    assert path.read_text().splitlines()[0].endswith(",seconds,'=1+1")
    assert [line["=1+1"] for line in read_rows(path)] == [-2.5, -2.5]
    FAILURES.append(tmp_path / "failures.csv", [{"round": 1, "client": "0", "reason": "=HYPERLINK(1)"}])
    assert "1,0,'=HYPERLINK(1)" in (tmp_path / "failures.csv").read_text()
    assert FAILURES.read(tmp_path / "failures.csv")[0]["reason"] == "=HYPERLINK(1)"
