"""Where a round's time goes: each part by a sleep of its own."""

import time

import pytest
from toy_federation import Silent, ToyClients, federate, floats, loss_is_cid, move_by_cid

from fedkeras import strategies
from fedkeras.federation.client_manager import ClientManager

START = floats(w=[0, 10])


def slow(seconds, work):
    def slowed(*args):
        time.sleep(seconds)
        return work(*args)

    return slowed


def slow_strategy(kind, seconds):
    """Flower's own kind takes all replies at once; ours takes them as they come."""
    strategy = strategies.load(kind)
    if kind == "fedavg":
        aggregate = strategy.aggregate_train

        def late(server_round, replies):
            result = aggregate(server_round, replies)
            time.sleep(seconds)
            return result

        strategy.aggregate_train = late
    else:
        strategy.aggregate_train = slow(seconds, strategy.aggregate_train)
    return strategy


@pytest.mark.parametrize("kind", ["fedavg", "fedmedian"])
def test_each_part_has_its_own_time_and_all_are_the_round(kind, monkeypatch):
    monkeypatch.setattr(ClientManager, "wait", slow(0.1, ClientManager.wait))
    app = ToyClients(slow(0.1, move_by_cid), slow(0.05, loss_is_cid))
    _, outcomes = federate(slow_strategy(kind, 0.2), app, START, num_server_rounds=2)
    for outcome in outcomes:
        timing = outcome.timing
        assert list(timing) == ["waiting", "training", "aggregation", "evaluation"]
        # Least times are enough: all together are the round, so what one had too much another would lack
        assert timing["waiting"] >= 0.2, "before training, and before evaluation"
        assert timing["training"] >= 0.3, "three clients, one after the other"
        assert timing["aggregation"] >= 0.2
        assert timing["evaluation"] >= 0.15
        assert sum(timing.values()) == pytest.approx(outcome.seconds, abs=0.02)


def test_waiting_in_vain_for_an_answer_is_no_aggregation():
    grid = Silent(ToyClients(), 3, silent=[1])
    _, [outcome] = federate(strategies.load("fedavg"), None, START, grid=grid, round_timeout=0.3, fraction_evaluate=0.0)
    assert outcome.timing["training"] >= 0.3 > outcome.timing["aggregation"]


def test_central_evaluation_is_evaluation():
    def evaluate(server_round, arrays):
        time.sleep(0.2)
        return {"num-examples": 1, "loss": 0.0}

    _, [outcome] = federate(strategies.load("fedavg"), ToyClients(), START, evaluate=evaluate, fraction_evaluate=0.0)
    assert outcome.timing["evaluation"] >= 0.2 > outcome.timing["training"]
