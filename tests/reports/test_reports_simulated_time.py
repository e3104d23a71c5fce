"""Figures against simulated seconds: the sum by round, the section of the report, the summary."""

import re

from fedkeras.config import Config
from fedkeras.reports import create_run_folder, summarise
from fedkeras.reports.history import History
from fedkeras.reports.simulated_time import chart, elapsed, sections


def rows(**of_all):
    found = []
    for number, (seconds, accuracy) in enumerate(((4.0, 0.25), (6.0, 0.5), (2.0, 0.75)), start=1):
        base = {"round": number, "phase": "train", "num_examples": 8, "loss": 1.0 / number, "seconds": 0.1}
        for cid in range(3 if number == 3 else 2):
            found.append({**base, "client": str(cid), "simulated_seconds": seconds / 2})
        found.append({**base, "client": "all", "simulated_seconds": seconds, **of_all})
        test = {"round": number, "phase": "evaluate", "client": "server", "num_examples": 9, "loss": 2.0 / number}
        found.append({**test, "accuracy": accuracy, "seconds": 0.1})
    return found


def test_seconds_are_added_up_by_round():
    assert elapsed(rows()) == {1: 4.0, 2: 10.0, 3: 12.0}
    assert elapsed([row for row in rows() if row["client"] != "all"]) == {}


def test_the_curve_stands_at_the_seconds():
    drawn = chart(rows(), "accuracy")
    points = re.search(r'points="([^"]+)"', drawn.svg).group(1).split()
    x = [float(point.split(",")[0]) for point in points]
    assert len(x) == 3 and abs((x[1] - x[0]) / (x[2] - x[1]) - 6.0 / 2.0) < 0.05
    assert "round 2, 10 s\ncentral test set: 0.5000" in drawn.svg and list(drawn.legend) == ["central test set"]


def test_the_report_and_the_summary_have_them(tmp_path):
    folder = create_run_folder(tmp_path, "timed", Config(num_partitions=4))
    assert not sections(folder)
    history = History(folder.history_path)
    history.append(rows(left_out=2))
    (section,) = sections(folder)
    assert section.title == "Time" and "12 simulated seconds in all" in section.html
    assert "6 times a client that was asked was left out" in section.html
    assert "client 2: 1" in section.html and "client 3: 0" in section.html and "client 0: 3" in section.html
    assert summarise(Config(), folder.history_path, 1.0, "finished")["simulated_seconds"] == 12.0


def test_a_run_by_the_real_clock_has_no_such_section(tmp_path):
    folder = create_run_folder(tmp_path, "plain", Config())
    History(folder.history_path).append([{k: v for k, v in row.items() if k != "simulated_seconds"} for row in rows()])
    assert not sections(folder)
    assert "simulated_seconds" not in summarise(Config(), folder.history_path, 1.0, "finished")
