"""FedNova by hand: what steps add up to, clients of different steps, and FedAvg where they are equal."""

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from quadratic_clients import RATE, Federation, Parabola

from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation import registry
from fedkeras.federation.claimed_steps import fault_of_steps
from fedkeras.federation.client_weights import ClientWeights
from fedkeras.federation.local_steps import accumulated_steps
from fedkeras.workflows.base import workflow_of
from fedkeras.workflows.flag_checks import check_flags


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize(("momentum", "pull"), [(0.0, 0.0), (0.9, 0.0), (0.5, 0.0), (0.0, 0.2), (0.0, 1e-6)])
def test_steps_add_up_to_what_gradients_of_one_move(steps, momentum, pull):
    """SGD step by step with rate 1 and the gradient -1, and a pull back to where it began."""
    w = velocity = 0.0
    for _ in range(steps):
        velocity = momentum * velocity + 1 - pull * w
        w += velocity
    assert accumulated_steps(steps, momentum, pull) == pytest.approx(w, rel=1e-6)


def test_two_clients_by_hand():
    """From 0: y_1 = 0.1 after one step, y_2 = -0.1 (1 + 0.9 + 0.81) after three; three quarters are the first's."""
    clients = (Parabola(1, 1, 1, examples=3), Parabola(1, -1, 3, examples=1))
    effective = 0.75 * 1 + 0.25 * 3
    direction = 0.75 * 0.1 / 1 + 0.25 * -0.271 / 3
    federation = Federation(clients, "fednova")
    assert federation.run(1) == pytest.approx(effective * direction)
    assert Federation(clients, "fedavg").run(1) == pytest.approx(0.75 * 0.1 + 0.25 * -0.271)
    assert federation.statistic == pytest.approx(0.75 * 1 + 0.25 * 3), "what is not trained is averaged"
    rows = {row["client"]: row["local_steps"] for row in federation.results[0].rows if row["phase"] == "train"}
    assert rows == {"0": 1, "1": 3, "all": 4}


def test_momentum_and_the_proximal_term_are_in_what_steps_add_up_to():
    """With slopes instead of parabolas the change of one step is known: both clients' mean gradient, however many."""
    slopes = (Parabola(1e-6, 1e6, 1), Parabola(1e-6, -2e6, 5))  # gradients -1 and 2 wherever they are
    for own in ({"optimizer_args": "momentum=0.9"}, {"strategy_args": "proximal_mu=0.5"}, {}):
        federation = Federation(slopes, "fednova", own)
        momentum, pull = (0.9 if "optimizer_args" in own else 0.0), (0.5 * RATE if "strategy_args" in own else 0.0)
        effective = np.mean([accumulated_steps(steps, momentum, pull) for steps in (1, 5)])
        assert federation.run(1) == pytest.approx(-RATE * effective * 0.5, rel=1e-4)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-9, 9), st.integers(1, 10**6)), min_size=1, max_size=4),
    st.floats(-9, 9, width=32),
    st.integers(1, 6),
)
def test_with_equal_steps_it_is_fedavg_or_the_number_beside_it(clients, w, steps):
    parabolas = [Parabola(1, t, steps, examples) for t, examples in clients]
    nova, average = (
        Federation(parabolas, name, {"max_client_weight": 1e9}).run(1, w=w) for name in ("fednova", "fedavg")
    )
    assert abs(nova - average) <= np.spacing(np.maximum(np.abs(average), np.abs(np.float32(w))))


def test_it_ends_nearer_to_where_the_mean_of_the_losses_is_least():
    """One client of ten steps and one of one, equal curvatures: the least is in the middle, FedAvg is drawn away."""
    clients = (Parabola(0.3, 1, 1), Parabola(0.3, -1, 10))
    nova, average = (Federation(clients, name).run(20)[0] for name in ("fednova", "fedavg"))
    assert abs(nova) < 0.1 < 0.7 < abs(average)


@pytest.mark.parametrize("strategy", ["fednova", "scaffold"])
@pytest.mark.parametrize("weights", ["examples", "uniform"])
def test_who_says_other_steps_than_it_was_to_do_has_failed(strategy, weights, tmp_path, monkeypatch):
    """One step in the place of ten would move the others' weights ten times as far. Batches of 4: 3 an epoch."""
    monkeypatch.setenv("FEDKERAS_CACHE", str(tmp_path))
    clients, said = [Parabola(1, t, 4, examples=n) for t, n in ((1, 12), (1, 12), (-1, 9), (1, 12))], (12, 1, 12, 13)

    def lie(cid, server_round, content):
        content["metrics"]["local-steps"] = said[cid]

    federation = Federation(clients, strategy, {"batch_size": 4, "client_weights": weights}, change=lie)
    federation.run(1)
    assert federation.results[0].failures == {
        1: "says that it did 1 steps, and was to do 12 (12 examples, --local-epochs 4)",
        3: "says that it did 13 steps, and was to do 12 at most",
    }


def test_what_is_known_of_a_clients_examples_goes_before_its_word():
    """Under uniform weights nobody's count is held against it, and may not decide its steps either."""
    known = ClientWeights(Config(client_weights="uniform"))
    assert known.examples("train", 0, 7) == 7
    known.deal({"train": {0: 80}})
    assert known.examples("train", 0, 7) == 80


@pytest.mark.parametrize(
    ("asked", "steps", "said"),
    [
        ({"most-steps": 0}, 10, None),
        ({"most-steps": 0}, 9, "says that it did 9 steps, and was to do 10 (73 examples, --local-epochs 2)"),
        ({"most-steps": 0, "local-epochs": 1}, 5, None),
        ({"most-steps": 7}, 7, None),
        ({"most-steps": 7}, 6, "says that it did 6 steps, and was to do 7 (73 examples, --local-epochs 2)"),
        ({"most-steps": 7}, 8, "says that it did 8 steps, and was to do 7 at most"),
        ({"most-steps": 70}, 10, None),
        ({"most-steps": 0, "most-seconds": 2.0}, 1, None),
        ({"most-steps": 0, "most-seconds": 2.0}, 11, "says that it did 11 steps, and was to do 10 at most"),
        ({"most-seconds": 2.0}, 2.5, "says that it did 2.5 steps"),
        ({}, None, None),
    ],
)
def test_steps_are_held_against_epochs_and_batches(asked, steps, said):
    """73 examples in batches of 16 are 5 steps an epoch."""
    sent = Message(RecordDict({"config": ConfigRecord(asked)}), dst_node_id=5, message_type="train")
    told = {} if steps is None else {"local-steps": steps}
    answer = Message(RecordDict({"metrics": MetricRecord({"num-examples": 73, **told})}), reply_to=sent)
    assert fault_of_steps(answer, sent, Config(local_epochs=2), 73) == said


def test_steps_that_must_be_believed_are_a_warning():
    for strategy in ("fednova", "scaffold"):
        for own, words in (({"round_deadline": 9.0}, 1), ({"round_deadline": 9.0, "late": "drop"}, 0), ({}, 0)):
            found = registry.for_run(registry.with_mods(Config(strategy=strategy, **own))).check(3)
            assert len(found) == words and all("one that says fewer" in line for line in found)


def test_who_is_stopped_by_a_deadline_counts_for_all_its_examples():
    """Two clients alike in examples, of 150 steps and of 12 in time: the least is in the middle, where it begins."""
    clients = (Parabola(0.02, 1, 150, examples=2400), Parabola(0.02, -1, 12, examples=2400))
    federation = Federation(clients, "fednova", {"clients": "slow=none", "round_deadline": 15.0})
    assert abs(federation.run(10)[0]) < 0.1
    rows = [row for row in federation.results[0].rows if row["phase"] == "train"]
    assert [(row["local_steps"], row["num_examples"]) for row in rows] == [(150, 2400), (12, 2400), (162, 4800)]


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"optimizer": "adam"}, "--strategy fednova is for --optimizer sgd"),
        ({"optimizer_args": "momentum=0.9", "strategy_args": "proximal_mu=0.1"}, "is for SGD without momentum"),
        ({"strategy_args": "proximal_mu=20"}, "each step would undo all before it"),
        ({"strategy_args": "proximal_mu=-1"}, "proximal_mu must be 0 or more"),
        ({"mode": "fedbuff"}, "fednova is for rounds: updates of a version begin"),
        ({"mods": "secure-aggregation"}, "fednova does not go with --mods secure-aggregation"),
        ({"mods": "dp-sgd:epsilon=2,delta=1e-3", "fraction_evaluate": 0.0}, "does not go with --mods dp-sgd"),
    ],
)
def test_what_it_does_not_go_with_is_refused_in_one_line(own, said):
    config = Config(strategy="fednova", client_weights="uniform", **own)
    with pytest.raises(UserError, match=said) as error:
        check_flags(workflow_of(config), config)
    assert "\n" not in str(error.value)


def test_who_does_not_say_how_many_steps_it_did_has_failed():
    def silent(cid, server_round, content):
        if cid:
            del content["metrics"]["local-steps"]

    federation = Federation((Parabola(1, 1, 1), Parabola(1, 1, 1)), "fednova", change=silent)
    assert federation.run(1) == pytest.approx(0.1)
    assert "says that it did None steps" in federation.results[0].failures[1]
