"""FedAdagrad, FedAdam, FedYogi and FedAvgM against numbers computed by hand, and against a second implementation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from toy_federation import ToyClients, content, federate, floats

from fedkeras import strategies
from fedkeras.federation.records import views
from fedkeras.strategies.fedavgm import FedAvgM
from fedkeras.strategies.fedopt import FedAdagrad, FedAdam, FedYogi


def moving_by(*changes):
    """Two clients, of 1 and 3 examples, whose weighted mean change in round r is changes[r-1]: c - 3 and c + 1."""

    def train(cid, server_round, weights, config):
        change = changes[server_round - 1] + (-3, 1)[cid]
        return content({name: array + np.float32(change) for name, array in weights.items()}, (1, 3)[cid], loss=1.0)

    return ToyClients(train)


def run(strategy, *changes, start=0.0):
    """The one global weight after each round."""
    _, results = federate(
        strategy, moving_by(*changes), floats(w=[start]), num_partitions=2, num_server_rounds=len(changes)
    )
    assert {views(result.arrays)["w"].dtype for result in results} == {np.dtype(np.float32)}
    return [float(views(result.arrays)["w"][0]) for result in results]


def test_fedadagrad_by_hand():
    """v = 9 + 16 = 25, m = 2: 0 + 4 * 2 / (5 + 3) = 1; v = 25 + 144 = 169, m = 1 + 6: 1 + 4 * 7 / (13 + 3)."""
    assert run(FedAdagrad(eta=4, tau=3, beta_1=0.5), 4, 12) == [1.0, 2.75]


def test_fedadam_by_hand():
    """v = 2 + 2 = 4, m = 1: 0 + 4 * 1 / (2 + 2) = 1; v = 2 + 98 = 100, m = 0.5 + 7: 1 + 4 * 7.5 / (10 + 2) = 3.5."""
    assert run(FedAdam(eta=4, tau=2, beta_1=0.5, beta_2=0.5), 2, 14) == [1.0, 3.5]


def test_fedyogi_by_hand():
    """64 > 4, so v = 4 + 32 = 36, m = 4: 0 + 4 * 4 / (6 + 2) = 2; 4 < 36, so v = 36 - 2 = 34, m = 2 + 1:
    2 + 4 * 3 / (5.8309519 + 2) = 3.5323806."""
    assert run(FedYogi(eta=4, tau=2, beta_1=0.5, beta_2=0.5), 8, 2) == [2.0, pytest.approx(3.5323806, abs=1e-6)]


def test_fedavgm_by_hand():
    """v = 10: 4 + 0.5 * 10 = 9; v = 0.5 * 10 - 1 = 4: 9 + 0.5 * 4 = 11."""
    assert run(FedAvgM(server_momentum=0.5, server_learning_rate=0.5), 10, -1, start=4.0) == [9.0, 11.0]


@pytest.mark.parametrize(
    ("name", "defaults"),
    [
        ("fedadagrad", {"eta": 0.03, "tau": 0.001, "beta_1": 0.0, "beta_2": 0.0}),
        ("fedadam", {"eta": 0.03, "tau": 0.001, "beta_1": 0.9, "beta_2": 0.99}),
        ("fedyogi", {"eta": 0.03, "tau": 0.001, "beta_1": 0.9, "beta_2": 0.99}),
        ("fedavgm", {"server_momentum": 0.9, "server_learning_rate": 1.0}),
    ],
)
def test_the_short_names_are_these_pages_with_these_defaults(name, defaults):
    strategy = strategies.load(name)
    assert type(strategy) in (FedAdagrad, FedAdam, FedYogi, FedAvgM)
    assert {key: getattr(strategy, key) for key in defaults} == defaults


def second_implementation(name, start, rounds, eta, tau, beta_1, beta_2, momentum):
    """All weights as one flat float64 vector, rounded to float32 after each round, as what travels is."""
    x = np.asarray(start, np.float64)
    m, v, velocity = np.zeros_like(x), np.ones_like(x) * tau * tau, np.zeros_like(x)
    for clients, counts in rounds:
        delta = np.average(np.asarray(clients, np.float64), axis=0, weights=counts) - x
        if name == "fedavgm":
            velocity = velocity * momentum + delta
            x = (x + eta * velocity).astype(np.float32).astype(np.float64)
            continue
        m = m * beta_1 + delta * (1 - beta_1)
        square = delta * delta
        if name == "fedadagrad":
            v = v + square
        elif name == "fedadam":
            v = v * beta_2 + square * (1 - beta_2)
        else:
            v = np.where(square > v, v + (1 - beta_2) * square, v - (1 - beta_2) * square)
        x = (x + eta * m / (v**0.5 + tau)).astype(np.float32).astype(np.float64)
    return x


@settings(max_examples=25, deadline=None)
@given(
    name=some.sampled_from(["fedadagrad", "fedadam", "fedyogi", "fedavgm"]),
    seed=some.integers(0, 2**31),
    clients=some.integers(1, 4),
    rounds=some.integers(1, 4),
    eta=some.floats(1e-3, 1.0),
    tau=some.floats(1e-4, 1.0),
    betas=some.tuples(some.floats(0, 0.99), some.floats(0, 0.999)),
)
def test_they_are_what_a_second_implementation_computes(name, seed, clients, rounds, eta, tau, betas):
    rng = np.random.default_rng(seed)
    start = rng.normal(size=5).astype(np.float32)
    sent = rng.normal(size=(rounds, clients, 5)).astype(np.float32)
    counts = rng.integers(1, 1000, clients)

    def train(cid, server_round, weights, config):
        own = sent[server_round - 1, cid]
        return content({"a": own[:4].reshape(2, 2), "b": own[4:]}, int(counts[cid]), loss=0.0)

    args = {"eta": eta, "tau": tau, "beta_1": betas[0]} | ({} if name == "fedadagrad" else {"beta_2": betas[1]})
    if name == "fedavgm":
        args = {"server_momentum": betas[0], "server_learning_rate": eta}
    begin = {"a": start[:4].reshape(2, 2), "b": start[4:]}
    final, _ = federate(
        strategies.load(name, args), ToyClients(train), begin, num_partitions=clients, num_server_rounds=rounds,
        max_client_weight=1000.0,
    )  # fmt: skip
    expected = second_implementation(
        name, start, [(each, counts) for each in sent], eta, tau, *betas, momentum=betas[0]
    )
    np.testing.assert_allclose(np.concatenate([final["a"].ravel(), final["b"]]), expected, rtol=3e-7, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("fedadam", {"eta": 0}, "eta must be above 0, not 0"),
        ("fedyogi", {"tau": -1}, "tau must be above 0, not -1"),
        ("fedadagrad", {"beta_1": 1}, "beta_1 must be at least 0 and below 1, not 1"),
        ("fedadam", {"beta_2": 1.5}, "beta_2 must be at least 0 and below 1, not 1.5"),
        ("fedadam", {"eta": float("nan")}, "eta must be above 0, not nan"),
        ("fedavgm", {"server_momentum": 1}, "server_momentum must be at least 0 and below 1, not 1"),
        ("fedavgm", {"server_learning_rate": 0}, "server_learning_rate must be above 0, not 0"),
    ],
)
def test_senseless_options_are_refused(name, args, words):
    with pytest.raises(Exception, match=words):
        strategies.load(name, args)
