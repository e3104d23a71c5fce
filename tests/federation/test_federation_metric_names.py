"""A run keeps a bounded number of its clients' own metrics."""

from toy_federation import ToyClients, content, federate, floats

import fedkeras.strategies as strategies
from fedkeras.federation.metric_names import MAX_LONE, MAX_NAMES, MetricNames


def line(cid, *names):
    return {"round": 1, "phase": "train", "client": str(cid), "num_examples": 1, "loss": 1.0} | dict.fromkeys(
        names, 0.5
    )


def test_new_names_in_every_round_are_a_bounded_part_of_the_history(caplog):
    """Client 0 has ninety new metrics in each of four rounds; those of the two others are kept."""

    def train(cid, server_round, weights, config):
        lies = {f"m{server_round}-{number}": 0.5 for number in range(90)} if cid == 0 else {"auc": 0.5}
        return content(floats(w=[1]), 1, loss=1.0, accuracy=0.5, **lies)

    _, outcomes = federate(
        strategies.load("fedavg"), ToyClients(train), floats(w=[0]), num_server_rounds=4, fraction_evaluate=0.0
    )
    names = {name for outcome in outcomes for row in outcome.rows for name in row}
    assert len([name for name in names if name.startswith("m")]) == MAX_LONE
    assert {"auc", "loss", "accuracy"} <= names
    assert sum("metrics are left out" in record.message for record in caplog.records) == 1


def test_what_more_clients_report_comes_first():
    kept, names = MetricNames(), [f"m{number}" for number in range(MAX_NAMES)]
    rows = [line(0, *names), line(1, *names[1:], "late"), line(2, "late")]
    kept.limit(rows)
    assert "late" in rows[1] and len({*rows[0], *rows[1]} - {*line(0)}) == MAX_NAMES
    assert "m0" not in rows[0]


def test_one_client_alone_may_have_all_of_them_and_a_resumed_run_goes_on_with_its_own():
    names = [f"m{number}" for number in range(MAX_NAMES + 1)]
    MetricNames().limit(rows := [line(0, *names)])
    assert [name for name in rows[0] if name.startswith("m")] == names[:-1]
    MetricNames(["round", "loss", *names[1:]]).limit(rows := [line(0, *names)])
    assert [name for name in rows[0] if name.startswith("m")] == names[1:]
