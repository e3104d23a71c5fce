"""Bytes up and down are columns of history.csv, and no metrics of anybody's model."""

from fedkeras.reports.headline import choose_headline
from fedkeras.reports.history import History, read_rows
from fedkeras.reports.summary import ending


def rows_of(**metrics: float) -> list[dict]:
    traffic = {"bytes_up": 3_000_000_000, "bytes_down": 132}
    return [
        {"round": number, "phase": phase, "client": "all", "num_examples": 4, "loss": 0.5, **traffic, **metrics}
        for number in (1, 2)
        for phase in ("train", "evaluate")
    ]


def test_they_are_read_back_as_whole_numbers(tmp_path):
    History(tmp_path / "history.csv").append(rows_of())
    [row, *_] = read_rows(tmp_path / "history.csv")
    assert (row["bytes_up"], row["bytes_down"]) == (3_000_000_000, 132)
    assert type(row["bytes_up"]) is int


def test_they_are_not_shown_as_a_metric(tmp_path):
    """Of a model without accuracy the first other metric is shown beside the loss."""
    assert choose_headline(rows_of()).metric == "accuracy"
    assert choose_headline(rows_of(mae=0.25)).metric == "mae"
    summary = {"accuracy": None, "status": "finished", "seconds": 1.0}
    text = "\n".join(ending(summary, rows_of(mae=0.25), tmp_path))
    assert "mae (clients)" in text and "bytes" not in text
