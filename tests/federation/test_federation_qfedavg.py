"""q-FedAvg against steps computed by hand, and in a federation whose clients say their loss first."""

import numpy as np
import pytest
from flwr.app import ConfigRecord
from toy_federation import content, floats, reply

from fedkeras import strategies
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation.messages import INITIAL_LOSS, LOSS_FIRST
from fedkeras.federation.records import record, views
from fedkeras.federation.registry import options_of
from fedkeras.federation.validation import fault_of_answer
from fedkeras.mods import releases
from fedkeras.strategies.qfedavg import QFedAvg


class NoNodes:
    """A grid without a node: messages are of no matter here."""

    def get_node_ids(self):
        return []


def step(strategy, start, updates, losses, examples):
    config = ConfigRecord()
    strategy.configure_train(1, record(start), config, NoNodes())
    assert config[LOSS_FIRST] is True
    replies = [
        reply(cid, content(update, examples[cid], loss=0.0, **{INITIAL_LOSS: losses[cid]}))
        for cid, update in enumerate(updates)
    ]
    arrays, _ = strategy.aggregate_train(1, replies)
    return views(arrays)


def test_two_clients_by_hand():
    """L = 1, q = 1: moved 1 and -1, times the losses 4 and 1: 3; h is 1 + 4 and 1 + 1: 7."""
    new = step(QFedAvg(q=1, learning_rate=1.0), floats(w=[1]), [floats(w=[0]), floats(w=[2])], [4.0, 1.0], [1, 1])
    np.testing.assert_allclose(new["w"], [1 - 3 / 7], rtol=1e-6)
    assert new["w"].dtype == np.float32


def test_examples_count_and_so_does_the_rate():
    """L = 10, q = 2, losses 1 and 2, examples 3 and 1; moved 10 (w - w_k) = 10 and 20.

    F^q Delta: 3*1*10 + 1*4*20 = 110. h: 3 (2*1*100 + 10*1) + 1 (2*2*400 + 10*4) = 630 + 1640 = 2270.
    """
    new = step(QFedAvg(q=2, learning_rate=0.1), floats(w=[3]), [floats(w=[2]), floats(w=[1])], [1.0, 2.0], [3, 1])
    np.testing.assert_allclose(new["w"], [3 - 110 / 2270], rtol=1e-6)


def test_the_norm_is_of_all_arrays_together():
    """q = 1, L = 1, one client with loss 1 that moved (3, 4): h = 25 + 1."""
    new = step(QFedAvg(q=1, learning_rate=1.0), floats(a=[3], b=[4]), [floats(a=[0], b=[0])], [1.0], [2])
    np.testing.assert_allclose([new["a"][0], new["b"][0]], [3 - 3 / 26, 4 - 4 / 26], rtol=1e-6)


def test_without_q_it_is_fedavg():
    rng = np.random.default_rng(0)
    updates = [{"w": rng.normal(size=5).astype(np.float32)} for _ in range(4)]
    new = step(QFedAvg(q=0), floats(w=[1] * 5), updates, [5.0, 0.0, 1.0, 2.0], [1, 2, 3, 4])
    mean = np.average([update["w"] for update in updates], axis=0, weights=[1, 2, 3, 4])
    np.testing.assert_allclose(new["w"], mean, rtol=1e-6)


def test_who_is_worst_off_pulls_the_most():
    pulls = [
        step(QFedAvg(q=q), floats(w=[0]), [floats(w=[-1]), floats(w=[1])], [1.0, 3.0], [1, 1])["w"][0]
        for q in (0, 0.1, 1)
    ]
    assert pulls[0] == 0 and pulls[1] > 0 and pulls[2] > 0


def test_its_rate_is_the_clients_unless_said_otherwise():
    assert options_of(Config(strategy="qfedavg", learning_rate=0.5)) == {"learning_rate": 0.5}
    own = Config(strategy="qfedavg", strategy_args="q=2,learning_rate=0.25")
    assert options_of(own) == {"learning_rate": 0.25, "q": 2}
    assert options_of(Config(learning_rate=0.5)) == {}, "fedavg takes none"


@pytest.mark.parametrize("args", [{"q": -1}, {"q": float("inf")}, {"learning_rate": 0}])
def test_bad_options_are_one_line(args):
    with pytest.raises(UserError, match="--strategy-args"):
        strategies.load("qfedavg", args)


@pytest.mark.parametrize(
    ("said", "fault"), [(1.0, None), (0, None), (-1.0, "-1.0"), (float("nan"), "nan"), (None, "None")]
)
def test_who_does_not_say_its_loss_has_failed(said, fault):
    asked = reply(0, content(None))
    asked.content["config"] = ConfigRecord({LOSS_FIRST: True})
    metrics = {} if said is None else {INITIAL_LOSS: said}
    found = fault_of_answer(reply(0, content(floats(w=[1]), 1, **metrics)), asked)
    assert (found is None) == (fault is None) and (fault is None or fault in found)


def test_protections_do_not_go_with_it():
    with pytest.raises(UserError, match="qfedavg: its clients say their loss"):
        releases.refuse(
            Config(strategy="qfedavg"), "dp", [each.name for each in releases.RELEASES if each.name != "initial losses"]
        )


@pytest.mark.parametrize("own", [{"optimizer": "adam"}, {"optimizer_args": "momentum=0.9"}])
def test_its_clients_take_plain_sgd(own):
    with pytest.raises(UserError, match="--strategy qfedavg is for"):
        QFedAvg().prepare(Config(strategy="qfedavg", **own))
