"""Rounds by a simulated clock, by hand: what they take, who is in time, how many steps those do."""

import pytest
from toy_federation import ToyClients, content, federate, floats

from fedkeras import strategies
from fedkeras.reports.simulated_time import elapsed

START = floats(w=[0, 10])
STEPS = (10, 20, 30)
"""Batches of the three clients' parts, of 8 examples each."""


@pytest.fixture
def speeds(tmp_path):
    """--clients with the factors 1, 2 and 4: a round's 10, 20 and 30 steps take 1, 4 and 12 s."""
    (tmp_path / "speeds.csv").write_text("cid,slow\n0,1\n1,2\n2,4\n")
    return f"slow={tmp_path}/speeds.csv:step=0.1"


def train(cid, server_round, weights, config):
    """Adds 1 to every weight for each step."""
    steps = STEPS[cid]
    if "most-steps" not in config:
        return content(weights, 8 * steps, loss=0.0)
    if config["most-steps"]:
        steps = min(steps, config["most-steps"])
    moved = {name: array + steps for name, array in weights.items()}
    return content(moved, 8 * STEPS[cid], loss=0.0, **{"local-steps": steps})


def run(work=train, **fields):
    fields = {"fraction_evaluate": 0.0, "batch_size": 8, **fields}
    return federate(strategies.load("fedavg"), ToyClients(work), START, **fields)


def lines(result, *names):
    return {row["client"]: tuple(row.get(name) for name in names) for row in result.rows if row["phase"] == "train"}


def test_a_round_takes_as_long_as_its_slowest_client(speeds):
    _, results = run(speeds=speeds, num_server_rounds=2)
    assert lines(results[0], "local_steps", "simulated_seconds") == {
        "0": (10, pytest.approx(1.0)), "1": (20, pytest.approx(4.0)), "2": (30, pytest.approx(12.0)),
        "all": (60, pytest.approx(12.0)),
    }  # fmt: skip
    assert elapsed([row for result in results for row in result.rows]) == pytest.approx({1: 12.0, 2: 24.0})


def test_the_bytes_of_its_messages_take_time_too(speeds):
    _, [result] = run(speeds=f"{speeds},mbit=0.001")
    both_ways = 2 * 8 * 136 / 1000  # two numbers of four bytes and their header there and back, at 1000 bits a second
    assert lines(result, "simulated_seconds")["1"] == (pytest.approx(4.0 + both_ways),)


def test_without_a_clock_nothing_is_asked_and_no_column_is_added(speeds):
    final, [result] = run()
    assert final["w"].tolist() == [0, 10] and not {"local_steps", "simulated_seconds"} & {*result.rows[0]}


@pytest.mark.parametrize("steps", [None, 0, -3, 2.5])
def test_who_does_not_say_its_steps_has_failed(steps, speeds):
    def silent(cid, server_round, weights, config):
        said = {} if cid != 1 else {"local-steps": steps} if steps is not None else {}
        return content(weights, 8, loss=0.0, **({"local-steps": 1} if cid != 1 else said))

    _, [result] = run(silent, speeds=speeds)
    assert result.failures == {1: f"says that it did {steps!r} steps"}


def test_nobody_sets_the_clock_but_the_server():
    def liar(cid, server_round, weights, config):
        return content(weights, 8, loss=0.0, **({"simulated-seconds": 0.0} if cid == 2 else {}))

    _, [result] = run(liar)
    assert result.failures == {2: "metric 'simulated-seconds' has the name of a column of history.csv"}
