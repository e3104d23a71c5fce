"""A part of the weights is trained, or all are held near given ones: gradients against numbers computed by hand."""

import keras
import numpy as np
import pytest
from keras import layers

from fedkeras import models
from fedkeras.errors import UserError
from fedkeras.learning.anchored import Anchored
from fedkeras.learning.learner import Learner
from fedkeras.learning.objectives import Proximal
from fedkeras.learning.trained_part import TrainedPart

RATE, MU = 0.5, 0.25
X = np.random.default_rng(0).normal(size=(8, 3)).astype("f")
Y = np.random.default_rng(1).integers(0, 2, 8)


@pytest.fixture(autouse=True)
def whatever_threads(monkeypatch):
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda threads: None)


@pytest.fixture(scope="module")
def learner():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(4), layers.BatchNormalization(), layers.Dense(2, "softmax")]
    )
    return Learner(model, learning_rate=RATE)


@pytest.fixture
def after(learner):
    """The weights after one step over all examples, from the same start, under an objective."""
    start = {name: array * 0 + np.float32(0.1) for name, array in learner.get_weights().items()}

    def trained(objective=None):
        learner.set_weights(start)
        learner.train(X, Y, epochs=1, batch_size=8, rng=np.random.default_rng(2), objective=objective)
        return learner.get_weights()

    return start, trained


def test_the_named_weights_move_as_ever_and_the_others_not_at_all(after):
    start, trained = after
    plain, head = trained(), trained(TrainedPart("006.kernel/007.bias"))
    names = ["006.kernel", "007.bias"]
    for name in names:
        np.testing.assert_allclose(head[name], plain[name], rtol=1e-6)
        assert (head[name] != start[name]).any()
    for name in start.keys() - set(names) - {"004.moving_mean", "005.moving_variance"}:
        assert (head[name] == start[name]).all(), name
    body = trained(TrainedPart("000.kernel"))
    assert (body["006.kernel"] == start["006.kernel"]).all() and (body["001.bias"] == start["001.bias"]).all()
    np.testing.assert_allclose(body["000.kernel"], plain["000.kernel"], rtol=1e-6)


def test_weight_decay_does_not_reach_what_is_not_trained():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.Dense(2, "softmax")])
    decaying = Learner(model, optimizer="adamw", learning_rate=0.1, optimizer_args={"weight_decay": 0.5})
    before = decaying.get_weights()
    decaying.train(X, Y, epochs=2, batch_size=4, rng=np.random.default_rng(2), objective=TrainedPart("003.bias"))
    after = decaying.get_weights()
    assert [name for name in before if (before[name] != after[name]).any()] == ["003.bias"]


def test_a_weight_that_is_not_trained_cannot_be_named(after):
    with pytest.raises(UserError, match=r"'004\.moving_mean' is none of the arrays that the model trains"):
        after[1](TrainedPart("000.kernel/004.moving_mean"))


def test_anchored_adds_mu_times_the_distance_to_the_given_weights(learner, after):
    start, trained = after
    names = models.trainable_names(learner.model)
    anchors = {name: np.full_like(start[name], place) for place, name in enumerate(names)}
    plain, held = trained(), Anchored(MU)
    held.take([anchors[name] for name in names])
    found = trained(held)
    for name in names:
        np.testing.assert_allclose(
            found[name], plain[name] - RATE * MU * (start[name] - anchors[name]), rtol=1e-5, atol=1e-6
        )


def test_without_weights_to_stay_near_it_says_so_and_others_take_none(after):
    with pytest.raises(UserError, match="the message brings none of them"):
        after[1](Anchored(MU))
    with pytest.raises(UserError, match="Proximal takes no arrays"):
        Proximal(MU).take([X])
