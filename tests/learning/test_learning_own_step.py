"""Models that are not plain: subclassed ones, and those with their own steps."""

import keras
import numpy as np
import pytest
from keras import layers

from fedkeras.learning import Learner
from fedkeras.learning.objectives import Proximal

X = np.random.default_rng(0).random((7, 4), "float32")
Y = np.array([0, 1, 2, 0, 1, 2, 0])


class OwnTraining(keras.Model):
    """Keras' own step, and a note that it was used."""

    def train_step(self, data):
        return {**super().train_step(data), "mine": 5.0}


class OwnTesting(keras.Model):
    def test_step(self, data):
        return {"loss": 0.25, "mine": 5.0}


class Silent(keras.Model):
    def train_step(self, data):
        return {"error": 1.0}


class Subclassed(keras.Model):
    """With a layer made in __init__ and a call that knows no `training`."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3, activation="softmax")

    def call(self, x):
        return self.dense(x)


def functional(kind=keras.Model):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    return kind(inputs, layers.Dense(3, activation="softmax")(layers.Dropout(0.5)(inputs)))


def train(learner, weights, **more):
    learner.set_weights(weights)
    return learner.train(X, Y, epochs=2, batch_size=3, rng=np.random.default_rng(4), **more)


def test_an_own_train_step_runs_in_fit_which_is_said_once_and_equals_the_graph(caplog):
    own, plain = Learner(functional(OwnTraining), optimizer="adam"), Learner(functional(), optimizer="adam")
    start = plain.get_weights()
    for _ in range(2):  # the second with a used optimizer
        outcome, expected = train(own, start), train(plain, start)
        for name, array in plain.get_weights().items():
            np.testing.assert_array_equal(own.get_weights()[name], array)
    assert caplog.text.count("OwnTraining has its own train_step") == 1
    assert outcome.metrics == {"mine": 5.0}
    assert (outcome.loss, outcome.accuracy) == (pytest.approx(expected.loss), pytest.approx(expected.accuracy))


def test_fedprox_cannot_reach_into_an_own_step():
    learner = Learner(functional(OwnTraining))
    with pytest.raises(ValueError, match="Proximal cannot reach into OwnTraining's own train_step"):
        train(learner, learner.get_weights(), objective=Proximal(0.1))


def test_a_step_without_a_loss_is_told_so():
    learner = Learner(functional(Silent))
    with pytest.raises(ValueError, match="returns error; it must return 'loss' too"):
        train(learner, learner.get_weights())


def test_an_own_test_step_is_used():
    outcome = Learner(functional(OwnTesting)).evaluate(X, Y, batch_size=3)
    assert (outcome.num_examples, outcome.loss, outcome.accuracy) == (7, 0.25, None)
    assert outcome.metrics == {"mine": 5.0}


def test_a_subclassed_model_trains_in_the_graph():
    model = Subclassed()
    model(X)
    learner = Learner(model)
    before = learner.evaluate(X, Y)
    outcome = train(learner, learner.get_weights())
    assert outcome.num_examples == 7
    assert learner.evaluate(X, Y).loss < before.loss
