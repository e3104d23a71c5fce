"""A client that lies in the right format: it ruins FedAvg, and the robust strategies stay among the honest clients."""

import numpy as np
import pytest
from toy_federation import ToyClients, content, federate, floats

from fedkeras import strategies

HONEST = 5
START = floats(kernel=np.zeros((4, 3)), bias=np.zeros(3))


def honest(cid):
    """Weights between 1 and 2."""
    rng = np.random.default_rng(cid)
    return {name: rng.uniform(1, 2, array.shape).astype(np.float32) for name, array in START.items()}


def huge(cid):
    return {name: np.full_like(array, 1e30) for name, array in START.items()}


def sign_flipped(cid):
    return {name: -10 * array for name, array in honest(cid).items()}


def random(cid):
    rng = np.random.default_rng(cid)
    return {name: rng.normal(0, 1e4, array.shape).astype(np.float32) for name, array in START.items()}


def final_weights(spec, args, lie, num_liars):
    """One round of five honest clients and some liars, who have the lowest and the highest cid and many examples."""
    liars = [0, HONEST + 1][:num_liars]

    def train(cid, server_round, weights, config):
        return content(lie(cid), 1000, loss=0.0) if cid in liars else content(honest(cid), 10, loss=0.0)

    total = HONEST + num_liars
    final, [outcome] = federate(strategies.load(spec, args), ToyClients(train), START, num_partitions=total)
    assert outcome.answered == total  # the lie is in the right format: no check can know it
    kept = [honest(cid) for cid in range(total) if cid not in liars]
    low = {name: np.min([weights[name] for weights in kept], axis=0) for name in START}
    high = {name: np.max([weights[name] for weights in kept], axis=0) for name in START}
    return [(low[name] <= final[name]) & (final[name] <= high[name]) for name in START]


@pytest.mark.parametrize("lie", [huge, sign_flipped, random])
@pytest.mark.parametrize("num_liars", [1, 2])
class TestLies:
    def test_fedavg_is_ruined(self, lie, num_liars):
        """Otherwise the tests below would show nothing."""
        assert not any(inside.any() for inside in final_weights("fedavg", {}, lie, num_liars))

    @pytest.mark.parametrize(
        ("spec", "args"),
        [
            ("fedmedian", {}),
            ("trimmed_mean", {"beta": 0.3}),
            ("krum", {"num_byzantine": 2}),
            ("krum", {"num_byzantine": 2, "num_selected": 3}),
        ],
        ids=["fedmedian", "trimmed_mean", "krum", "multi-krum"],
    )
    def test_robust_strategies_stay_within_the_honest_range(self, spec, args, lie, num_liars):
        assert all(inside.all() for inside in final_weights(spec, args, lie, num_liars))


def test_trimmed_mean_breaks_when_more_lie_than_it_trims():
    """beta 0.2 of 7 clients is 1: with two liars on one side, one is averaged in."""
    assert not any(inside.any() for inside in final_weights("trimmed_mean", {"beta": 0.2}, huge, 2))
