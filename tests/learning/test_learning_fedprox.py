"""FedProx's term stands on the gradient, from the second step on, for trainable weights only."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from fedkeras.learning import Learner
from fedkeras.learning.objectives import Objective, Proximal


def line():
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False)])
    model.set_weights([np.array([[1.0]])])
    return model


def steps(model, epochs, mu, optimizer="sgd"):
    """Train y = w x on one example (2, 3) from w = 1 by SGD 0.1; the loss is (2w - 3)^2, its gradient 4 (2w - 3)."""
    learner = Learner(model, loss="mse", learning_rate=0.1, optimizer=optimizer)
    outcome = learner.train(
        np.array([[2.0]]),
        np.array([[3.0]]),
        epochs=epochs,
        batch_size=1,
        rng=np.random.default_rng(0),
        objective=Proximal(mu),
    )
    return float(learner.get_weights()["000.kernel"][0, 0]), outcome.loss


def test_the_gradient_gets_mu_times_the_distance_by_hand():
    # step 1: w = 1 - 0.1 * 4 * (2 - 3) = 1.4 either way, for the distance is 0
    assert steps(line(), 1, 0.0)[0] == steps(line(), 1, 0.5)[0] == pytest.approx(1.4)
    # step 2: 1.4 - 0.1 * 4 * (2.8 - 3) = 1.48, and with the term 0.1 * 0.5 * (1.4 - 1) = 0.02 less
    assert steps(line(), 2, 0.0)[0] == pytest.approx(1.48)
    assert steps(line(), 2, 0.5)[0] == pytest.approx(1.46)
    # step 3 from 1.46: 1.46 + 0.1 * 4 * 0.08 - 0.1 * 0.5 * 0.46: the anchor has stayed at 1
    assert steps(line(), 3, 0.5)[0] == pytest.approx(1.46 + 0.032 - 0.023)


@pytest.mark.parametrize(
    "scaling",
    [
        keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=1024.0),
        keras.optimizers.SGD(0.1, loss_scale_factor=1024.0),
    ],
    ids=["dynamic", "fixed"],
)
def test_an_optimizer_that_scales_losses_leaves_mu_as_it_is(scaling):
    """The same numbers by hand as above: 1.48 without the term, 1.46 with it."""
    assert steps(line(), 2, 0.0, scaling)[0] == pytest.approx(1.48)
    assert steps(line(), 2, 0.5, scaling)[0] == pytest.approx(1.46)
    assert steps(line(), 3, 0.5, scaling)[0] == pytest.approx(1.46 + 0.032 - 0.023)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
@pytest.mark.parametrize("scale", [1.0, 2.0**14])
def test_the_gradients_differ_by_mu_times_the_distance_whatever_the_precision(precision, scale):
    """And are so small that 16 bits lose them unscaled: 1e-5 * 2e-4 is below 2^-25, what float16 rounds to 0."""
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False, dtype=precision)])
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=scale)
    Learner(model, loss=lambda y, predicted: 1e-5 * predicted, optimizer=optimizer)
    weights, objective = model.trainable_variables, Proximal(0.5)
    model.set_weights([np.array([[1.0]])])
    begun = objective.begin(weights, np.random.default_rng(0))
    model.set_weights([np.array([[1.75]])])
    x, y, step = tf.constant([[2e-4]]), tf.constant([[0.0]]), tf.constant(0)
    without, term = (
        float(one.gradients(model, x, y, weights, begun, step).of_weights[0][0, 0]) for one in (Objective(), objective)
    )
    assert term - without == pytest.approx(0.5 * 0.75)
    assert without == (0.0 if scale == 1 and precision != "float32" else pytest.approx(2e-9, rel=0.01))


def test_the_loss_reported_is_without_the_term():
    assert steps(line(), 2, 0.5)[1] == pytest.approx((2 * 1.4 - 3) ** 2)


def test_a_second_training_is_held_to_where_it_starts_and_not_to_the_first():
    learner = Learner(line(), loss="mse", learning_rate=0.1)
    x, y = np.array([[2.0]]), np.array([[3.0]])
    rng = np.random.default_rng(0)
    for _ in range(2):
        learner.train(x, y, epochs=1, batch_size=1, rng=rng, objective=Proximal(0.5))
    assert learner.get_weights()["000.kernel"][0, 0] == pytest.approx(1.48)


def test_batch_norm_statistics_are_not_held():
    x = np.random.default_rng(0).random((12, 3), "float32")
    results = []
    for mu in (0.0, 0.5):
        keras.utils.set_random_seed(2)
        model = keras.Sequential([keras.Input((3,)), layers.BatchNormalization(trainable=True), layers.Dense(2)])
        learner = Learner(model, loss="mse")
        learner.train(x, x[:, :2], epochs=2, batch_size=4, rng=np.random.default_rng(0), objective=Proximal(mu))
        results.append(learner.get_weights())
    assert np.array_equal(results[0]["002.moving_mean"], results[1]["002.moving_mean"])
    assert not np.array_equal(results[0]["004.kernel"], results[1]["004.kernel"])


def test_a_sparse_gradient_and_a_frozen_layer_are_no_obstacle():
    keras.utils.set_random_seed(2)
    model = keras.Sequential(
        [keras.Input((3,), dtype="int32"), layers.Embedding(7, 4), layers.Flatten(), layers.Dense(2, trainable=False)]
    )
    learner = Learner(model, loss="mse")
    before = learner.get_weights()
    x = np.arange(9).reshape(3, 3) % 7
    learner.train(x, np.ones((3, 2)), epochs=2, batch_size=2, rng=np.random.default_rng(0), objective=Proximal(0.5))
    assert not np.array_equal(before["000.embeddings"], learner.get_weights()["000.embeddings"])
    assert np.array_equal(before["001.kernel"], learner.get_weights()["001.kernel"])


def test_a_negative_mu_is_refused():
    with pytest.raises(ValueError, match=r"mu=-1\.0 must be 0 or more"):
        steps(line(), 1, -1.0)
