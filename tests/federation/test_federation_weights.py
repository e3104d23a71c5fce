"""What clients count for: by facts, by what they claim, or all alike; every expected value is worked out by hand."""

import numpy as np
import pytest
from flwr.app import MessageType
from toy_federation import ToyClients, configure, content, federate, floats, reply

import fedkeras.strategies as strategies
from fedkeras.errors import UserError
from fedkeras.federation import strategy_adapter
from fedkeras.federation.client_weights import ClientWeights
from fedkeras.federation.validation import fault_of_evaluate
from fedkeras.mods.base import Mod
from fedkeras.mods.chain import ModChain
from fedkeras.reports import Recorder, create_run_folder
from fedkeras.workflows.soundness import Soundness

TRAIN, EVALUATE = MessageType.TRAIN, MessageType.EVALUATE
START = floats(w=[0.0])


def claiming(*counts, accuracy=(0.5, 0.5, 0.5, 0.5, 0.5)):
    """Client N's update is N, and it says that it has counts[N] examples (of a list: one a round)."""

    def count(cid, server_round):
        return counts[cid][server_round - 1] if isinstance(counts[cid], list) else counts[cid]

    def train(cid, server_round, weights, config):
        return content(floats(w=[cid]), count(cid, server_round), loss=float(cid))

    def evaluate(cid, server_round, weights, config):
        return content(None, count(cid, server_round), loss=float(cid), accuracy=accuracy[cid])

    return ToyClients(train, evaluate)


def go(clients, strategy="fedavg", **fields):
    """The final weight and the rounds' results."""
    strategy = strategies.load(strategy) if isinstance(strategy, str) else strategy
    final, outcomes = federate(strategy, clients, START, num_partitions=3, **fields)
    return final["w"][0], outcomes


def row(outcome, phase, client):
    [found] = [line for line in outcome.rows if (line["phase"], line["client"]) == (phase, str(client))]
    return found


def test_a_claim_counts_for_so_many_medians_and_no_more():
    """10, 20 and 10^12: the median is 20, so that client 2 counts for 4 * 20 = 80: (1*20 + 2*80) / 110."""
    final, [outcome] = go(claiming(10, 20, 10**12), max_client_weight=4.0)
    assert final == np.float32((20 + 2 * 80) / 110)
    assert row(outcome, TRAIN, 2)["num_examples"] == 80 and row(outcome, TRAIN, "all")["num_examples"] == 110
    assert row(outcome, EVALUATE, "all")["loss"] == pytest.approx(180 / 110)
    weighting = outcome.weightings[TRAIN]
    assert (weighting.claims, weighting.median) == ({2: 10**12}, 20)


@pytest.mark.parametrize("strategy", ["fedavg", "flwr.serverapp.strategy:FedAvg"])
def test_flowers_strategies_obey_too(strategy):
    """Uniform: (0 + 1 + 2) / 3."""
    final, [outcome] = go(claiming(10, 20, 10**12), strategy, client_weights="uniform")
    assert final == 1.0 and row(outcome, EVALUATE, "all")["loss"] == 1.0
    final, _ = go(claiming(10, 20, 10**12), strategy, max_client_weight=4.0)
    assert final == pytest.approx((20 + 2 * 80) / 110)


def test_a_strategy_that_counts_by_another_claim_is_a_warning():
    [warning] = strategy_adapter.check(
        strategies.load("flwr.serverapp.strategy:FedAvg", {"weighted_by_key": "loss"}), 3
    )
    assert warning.startswith("FedAvg counts each client by its own metric 'loss'")
    assert not strategy_adapter.check(strategies.load("flwr.serverapp.strategy:FedAvg"), 3)


def test_of_two_clients_the_smaller_claim_is_the_median():
    """(0*3 + 1*6) / 9: neither can lift the median by itself."""
    final, _ = federate(strategies.load("fedavg"), claiming(3, 10**12), START, num_partitions=2, max_client_weight=2.0)
    assert final["w"][0] == np.float32(6 / 9)


def test_what_the_server_dealt_is_not_capped_and_a_different_claim_is_a_fault():
    dealt = {TRAIN: {0: 1, 1: 1, 2: 1000}, EVALUATE: {0: 1, 1: 1, 2: 1000}}
    final, [outcome] = go(claiming(1, 1, 1000), dealt=dealt, max_client_weight=1.0)
    assert final == np.float32((1 + 2000) / 1002) and not outcome.weightings[TRAIN].claims
    final, [outcome] = go(claiming(1, 1, 10**12), dealt=dealt)
    assert final == 0.5
    assert outcome.failures == {2: "says it has 1000000000000 examples to train, and its part of the data has 1000"}


def test_a_count_holds_for_the_whole_run():
    final, [_, second] = go(claiming(1, 1, [1, 5]), num_server_rounds=2)
    assert second.failures == {2: "says it has 5 examples to train, and said 1 before: counts hold for a whole run"}
    assert final == 0.5  # without it
    final, [_, second] = go(claiming(1, 1, [1, 5]), num_server_rounds=2, client_weights="uniform")
    assert final == 1.0 and not second.failures


def test_a_mod_may_say_that_counts_change():
    class Sampling(Mod):
        fixed_counts = False

    assert not ModChain([Mod(), Sampling()]).fixed_counts and ModChain([Mod()]).fixed_counts
    weights = ClientWeights(configure(), fixed=False)
    weights.settle(TRAIN, [0, 1], {0: 5, 1: 6})
    assert weights.fault(TRAIN, 0, 7) is None and not weights.decided(TRAIN, [0, 1])
    assert weights.settle(TRAIN, [0, 1], {0: 7, 1: 6}).weights == {0: 7, 1: 6}


def test_known_takes_no_count_that_comes_with_the_answer():
    weights = ClientWeights(configure(client_weights="known"))
    weights.register(0, {TRAIN: 8, EVALUATE: 0})
    assert weights.knows(0) and not weights.knows(1)
    assert weights.fault(TRAIN, 0, 8) is None
    assert weights.fault(TRAIN, 1, 8).endswith("(--client-weights known)")
    assert weights.decided(TRAIN, [0]) and not weights.decided(TRAIN, [0, 1])
    weights.register(0, {TRAIN: 9})  # what it said first holds
    assert weights.fault(TRAIN, 0, 9).startswith("says it has 9 examples to train, and said 8 before")


def test_a_resumed_run_knows_what_was_said():
    before, after = ClientWeights(configure()), ClientWeights(configure())
    before.settle(TRAIN, [0, 1], {0: 5, 1: 6})
    after.restore(before.table())
    assert after.fault(TRAIN, 0, 7) and after.decided(TRAIN, [0, 1]) and not after.decided(EVALUATE, [0, 1])
    with pytest.raises(ValueError, match="no table of examples"):
        after.restore({"train": 3})


def test_the_sizes_partitioner_says_itself_how_much_larger_a_client_is():
    """100 times the median by --sizes, and held-out rows are rounded: twice that is not passed."""
    config = configure(partitioner="sizes", sizes="1,1,100")
    assert ClientWeights(config).factor == 200
    with pytest.raises(UserError, match="--sizes"):
        ClientWeights(configure(partitioner="sizes", sizes="1,x,100"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("accuracy", 7.0), ("accuracy", -0.1), ("sparse_categorical_accuracy", 1.1), ("seconds", -1.0)],
)
def test_what_cannot_be_is_a_fault(name, value):
    assert fault_of_evaluate(reply(0, content(None, 1, loss=1.0, **{name: value}))).startswith(f"metric '{name}' is")


def test_what_can_be_is_none():
    """float32 may be a little above 1; a loss may be negative; of other names nobody knows the range."""
    answer = content(None, 1, loss=-3.0, accuracy=1 + 1e-7, cosine=-0.4, perplexity=30.0)
    assert fault_of_evaluate(reply(0, answer)) is None


@pytest.mark.parametrize("strategy", ["krum", "fedmedian", "trimmed_mean", "flwr.serverapp.strategy:FedMedian"])
def test_under_a_robust_strategy_the_published_figures_are_medians(strategy):
    """Client 4 says that it is perfect, and has the most examples; 0.1, 0.2, 0.3, 0.4 and 1.0 have median 0.3."""
    clients = claiming(1, 1, 1, 1, 10**12, accuracy=(0.1, 0.2, 0.3, 0.4, 1.0))
    _, [outcome] = federate(strategies.load(strategy), clients, START, num_partitions=5)
    assert row(outcome, EVALUATE, "all")["accuracy"] == 0.3
    assert row(outcome, EVALUATE, "all")["loss"] == 2.0 == row(outcome, TRAIN, "all")["loss"]
    _, [outcome] = federate(strategies.load("fedavg"), clients, START, num_partitions=5)
    assert row(outcome, EVALUATE, "all")["accuracy"] == pytest.approx((1.0 + 50.0) / 54)


def test_who_carries_more_than_half_is_a_warning_and_so_is_a_capped_claim(tmp_path):
    """50 * 20 of 1030 is 97.1 %; each is said once for two rounds."""
    folder = create_run_folder(tmp_path, "x", configure())
    with Recorder(folder, configure(), live=False) as recorder:
        go(claiming(10, 20, 10**12), callbacks=[Soundness(recorder).on_round_end], num_server_rounds=2)
        warnings = recorder.finish()["warnings"]
    assert [line.split(", ")[0] for line in warnings] == [
        "round 1: client 2 says it has 1000000000000 examples to train",
        "round 1: client 2 carries 97.1 % of the clients' weight in train",
        "round 1: client 2 says it has 1000000000000 examples to evaluate",
    ]
    assert "counts for 1000, since the median client of the round has 20 (--max-client-weight)" in warnings[0]


def test_half_and_the_larger_of_two_parts_are_no_news(tmp_path):
    folder = create_run_folder(tmp_path, "x", configure())
    with Recorder(folder, configure(), live=False) as recorder:
        calls = [Soundness(recorder).on_round_end]
        federate(strategies.load("fedavg"), claiming(4, 6), START, num_partitions=2, callbacks=calls)
        go(claiming(2, 1, 1), callbacks=calls)
        assert "warnings" not in recorder.finish()
