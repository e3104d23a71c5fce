"""What stands beside a mean over clients, against numbers computed by hand."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedkeras.compare import table
from fedkeras.compare.arm_run import ArmResult
from fedkeras.config import Config
from fedkeras.reports import fairness, summary


def rows(phase="evaluate", server_round=1, **accuracies):
    return [
        {
            "round": server_round,
            "phase": phase,
            "client": cid.lstrip("c"),
            "num_examples": 5,
            "loss": 1 - value,
            "accuracy": value,
        }
        for cid, value in accuracies.items()
    ]


def test_by_hand():
    """0.2, 0.4, 0.9: mean 0.5, variance (0.09 + 0.01 + 0.16) / 3, a tenth of three is one client."""
    found = fairness.fairness([0.9, 0.2, 0.4])
    assert (found.clients, found.lowest, found.highest, found.worst_tenth) == (3, 0.2, 0.9, 0.2)
    assert found.mean == pytest.approx(0.5) and found.variance == pytest.approx(0.26 / 3)
    assert found.points == "867"
    assert fairness.fairness([0.9, 0.2, 0.4], high_is_good=False).worst_tenth == 0.9


def test_a_tenth_is_rounded_up():
    values = [number / 100 for number in range(11)]
    assert fairness.fairness(values).worst_tenth == pytest.approx(0.005), "two of eleven"
    assert fairness.fairness(values[:10]).worst_tenth == 0.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_the_worst_are_no_better_than_all(values):
    found = fairness.fairness(values)
    assert found.lowest <= found.worst_tenth + 1e-12 and found.worst_tenth <= found.mean + 1e-12
    assert found.mean <= found.highest + 1e-12 and 0 <= found.variance <= 0.25 + 1e-12


def test_the_last_round_with_a_test_counts():
    history = [*rows(c0=0.1, c1=0.2), *rows(server_round=2, c0=0.5, c1=0.7), *rows("train", 3, c0=1.0, c1=1.0)]
    history += [{**rows(c0=0.6)[0], "round": 2, "client": "all"}, {**rows(c0=0.6)[0], "round": 2, "client": "server"}]
    assert fairness.last_round(history).table() == {
        "clients": 2, "mean": 0.6, "worst_tenth": 0.5, "variance": 0.01, "lowest": 0.5, "highest": 0.7,
    }  # fmt: skip
    assert fairness.last_round(history, "loss").worst_tenth == 0.5, "of a loss the highest"
    assert fairness.last_round(rows(c0=0.5)) is None, "one client has no others"
    assert fairness.last_round([*rows(c0=0.5), *rows(c1=float("nan"))]) is None
    new = {"round": 2, "phase": "evaluate", "client": "9", "num_examples": 5, "new_accuracy": 0.1}
    assert fairness.last_round([*history, new]).clients == 2, "who was not there in training is not of the mean"


def test_a_summary_and_its_last_lines_say_it(tmp_path):
    history = rows(c0=0.5, c1=0.7)
    found = summary.summarise(Config(), history, 1.0, "finished")
    assert found["client_accuracy"]["worst_tenth"] == 0.5 and found["client_loss"]["worst_tenth"] == 0.5
    assert json.dumps(found)
    said = "\n".join(summary.ending(found, history, tmp_path))
    assert "accuracy over 2 clients' own tests: mean 0.6000, worst 10 % 0.5000," in said
    assert "  lowest 0.5000, highest 0.7000, variance 100 points²" in said
    assert "client_accuracy" not in summary.summarise(Config(), [], 1.0, "finished"), "a mod hides clients"


def test_a_comparison_has_it_in_its_table():
    arm = ArmResult("fedavg", "federated", 1, 0.9, 0.9, 0.1, 1.0, 1.0, 0, 0, own={"0": 0.5, "1": 0.7})
    (line,) = table.lines_of([arm])
    assert table.cells_of(line)[4:10] == ("0.6000", "0.5000", "0.5000", "0.6000", "0.7000", "100")
    assert len(table.cells_of(line)) == len(table.HEADS)
    heads, cells = (text.split(",") for text in table.table_csv([arm]).splitlines())
    own = dict(zip(heads, cells, strict=True))
    assert float(own["own_mean"]) == pytest.approx(0.6) and float(own["own_variance"]) == pytest.approx(0.01)
    assert float(own["own_worst_tenth"]) == 0.5
