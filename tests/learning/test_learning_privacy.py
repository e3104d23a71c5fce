"""Noise on what leaves, and NoPeek's term on M1's objective."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from fedkeras import models
from fedkeras.learning import HeadAndTail
from fedkeras.learning.nopeek import distance_correlation

X = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")
Y = np.arange(12) % 3


def by_hand(x, z):
    """Szekely, Rizzo and Bakirov's definition, with loops, in float64."""

    def centred(values):
        flat = values.reshape(len(values), -1).astype("float64")
        distances = np.array([[np.linalg.norm(one - other) for other in flat] for one in flat])
        return distances - distances.mean(0) - distances.mean(1)[:, None] + distances.mean()

    a, b = centred(x), centred(z)
    return np.sqrt((a * b).mean() / np.sqrt((a * a).mean() * (b * b).mean()))


def dense(activation="relu"):
    keras.utils.set_random_seed(1)
    stack = [layers.Dense(5, activation=activation), layers.Dense(4, activation="relu"), layers.Dense(3, "softmax")]
    return keras.Sequential([keras.Input((4,)), *stack])


def ends(**options):
    return HeadAndTail(models.cut(dense(), 0, 1), optimizer="sgd", learning_rate=0.1, **options)


def test_distance_correlation_by_hand():
    z = np.random.default_rng(1).normal(size=(12, 2, 3)).astype("float32")
    for other in (z, X**2, X + 0.1 * z[:, 0, :1]):
        assert float(distance_correlation(X, other)) == pytest.approx(by_hand(X, other), rel=1e-6)
    assert float(distance_correlation(X, 3 * X + 1)) == pytest.approx(1.0, abs=1e-6)
    # two examples: every distance matrix is a multiple of the other
    assert float(distance_correlation(X[:2], z[:2])) == pytest.approx(1.0, abs=1e-6)


def test_its_gradient_is_that_of_the_definition_and_finite_for_twins_and_constants():
    z = np.random.default_rng(1).normal(size=(12, 3))
    with tf.GradientTape() as tape:
        variable = tf.constant(z)
        tape.watch(variable)
        value = distance_correlation(X, variable)
    gradient = tape.gradient(value, variable).numpy()
    for place in [(0, 0), (7, 2)]:
        step = np.zeros_like(z)
        step[place] = 1e-5
        assert gradient[place] == pytest.approx((by_hand(X, z + step) - by_hand(X, z - step)) / 2e-5, rel=1e-4)
    for some in (np.concatenate([z[:6], z[:6]]), np.ones((12, 3)), z[:1]):
        with tf.GradientTape() as tape:
            variable = tf.constant(some)
            tape.watch(variable)
            value = distance_correlation(X[: len(some)], variable)
        assert np.isfinite(value)
        assert np.isfinite(tape.gradient(value, variable)).all()


def test_nopeek_reaches_m1_alone_with_its_weight_by_both_ways():
    alpha, seeds = 0.7, np.zeros((0, 2))
    results = {}
    for name, nopeek, again in [("plain", 0.0, False), ("tape", alpha, False), ("again", alpha, True)]:
        client = ends(nopeek=nopeek)
        start = client.get_weights()
        activations, _ = client.forward(X, key=None if again else 1)
        pull = np.ones_like(activations) / 100
        if again:
            client.backward_again(X, pull, seeds)
        else:
            client.backward(pull, 1)
        results[name] = client.get_weights()
        if nopeek:
            expected = by_hand(X, activations)
    weights = tf.Variable(start["000.kernel"])
    with tf.GradientTape() as tape:
        value = distance_correlation(X, tf.nn.relu(X @ weights + start["001.bias"]))
    moved = -0.1 * alpha * tape.gradient(value, weights).numpy()
    assert np.abs(moved).max() > 1e-3
    np.testing.assert_allclose(results["tape"]["000.kernel"] - results["plain"]["000.kernel"], moved, atol=1e-6)
    np.testing.assert_allclose(results["again"]["000.kernel"], results["tape"]["000.kernel"], atol=1e-6)
    np.testing.assert_array_equal(results["tape"]["004.kernel"], start["004.kernel"])
    client = ends(nopeek=alpha)
    activations, penalty = client.forward(X, key=1)
    _, loss = client.loss_and_gradient(np.ones((12, 4), "f"), Y.astype("int32"), penalty=penalty)
    plain = ends().loss_and_gradient(np.ones((12, 4), "f"), Y.astype("int32"))[1]
    outcome = client.outcome()
    assert loss == outcome.loss == pytest.approx(plain)
    assert outcome.metrics["distance_correlation"] == pytest.approx(expected, rel=1e-5)


def test_nopeek_lowers_what_it_measures():
    client, values = ends(nopeek=1.0), []
    for batch in range(60):
        activations, _ = client.forward(X, key=batch)
        values.append(by_hand(X, activations))
        client.backward(np.zeros_like(activations), batch)
    assert values[-1] < values[0] - 0.02


def test_noise_is_on_all_that_leaves_and_not_in_the_gradient():
    plain, noisy = ends(), ends(noise=0.5)
    big = np.repeat(X, 500, axis=0)
    for clean, sent in [
        (plain.forward(big, key=1)[0], noisy.forward(big, key=1)[0]),
        (plain.forward_eval(big)[0], noisy.forward_eval(big)[0]),
    ]:
        noise = sent - clean
        assert noise.mean() == pytest.approx(0, abs=0.02)
        assert noise.std() == pytest.approx(0.5, rel=0.03)
    gradient = np.random.default_rng(2).normal(size=(6000, 5)).astype("float32")
    plain.backward(gradient, 1)
    noisy.backward(gradient, 1)
    np.testing.assert_array_equal(plain.get_weights()["000.kernel"], noisy.get_weights()["000.kernel"])


def test_noise_is_new_each_time_and_follows_no_seed_that_the_server_knows():
    keras.utils.set_random_seed(3)
    first = ends(noise=0.5)
    keras.utils.set_random_seed(3)
    second = ends(noise=0.5)
    sent = [client.forward(X)[0] for client in (first, first, second)]
    assert not np.array_equal(sent[0], sent[1])
    assert not np.array_equal(sent[0], sent[2])
    known = [ends(noise=0.5, noise_rng=np.random.default_rng(1)).forward(X)[0] for _ in range(2)]
    assert np.array_equal(*known)


@pytest.mark.parametrize("options", [{"noise": -1.0}, {"nopeek": -1.0}, {"noise": float("nan")}])
def test_amounts_below_zero_are_refused(options):
    with pytest.raises(ValueError, match="start at 0"):
        ends(**options)
