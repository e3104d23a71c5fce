"""Objectives that anybody may write, here and not in the product: in one graph and epoch by epoch, by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from fedkeras.errors import UserError
from fedkeras.learning import Learner
from fedkeras.learning.objectives import Gradients, Objective, Proximal, batch_loss, objective_of
from fedkeras.named_code import EVERYTHING, Permission

TRACED = []


class Ridge(Objective):
    """The loss plus `strength / 2 * ||w||^2`: a term beside the loss."""

    def __init__(self, strength=0.5):
        self.strength = float(strength)

    def term(self, model, x, y, predicted, weights, begun):
        TRACED.append(self.strength)
        return self.strength / 2 * tf.add_n([tf.reduce_sum(weight * weight) for weight in weights])


class ClippedExamples(Objective):
    """Each example's own gradient, clipped to `norm` over all weights, and their mean: gradients all its own."""

    def __init__(self, norm=1.0):
        self.norm = norm

    def gradients(self, model, x, y, weights, begun, step):
        def of_one(example):
            one_x, one_y = example[0][None], example[1][None]
            with tf.GradientTape() as tape:
                loss, _ = batch_loss(model, one_x, one_y)
            return tf.clip_by_global_norm(tape.gradient(loss, weights), self.norm)[0]

        each = tf.map_fn(of_one, (x, y), fn_output_signature=[tf.TensorSpec(w.shape, w.dtype) for w in weights])
        return Gradients([tf.reduce_mean(of_all, axis=0) for of_all in each], *batch_loss(model, x, y))


class Shifted(Objective):
    """Every gradient gets `amount` for each step taken so far, and a random number of this training's."""

    def __init__(self, amount=1.0, random=False):
        self.amount, self.random = float(amount), random

    def graph_key(self):
        return type(self)

    def begin(self, weights, rng):
        TRACED.append("begun")
        return [tf.constant(self.amount), tf.constant(rng.normal(size=3).sum() * self.random, tf.float32)]

    def gradients(self, model, x, y, weights, begun, step):
        TRACED.append("shifted")
        found = super().gradients(model, x, y, weights, begun, step)
        more = begun[0] * tf.cast(step, tf.float32) + begun[1]
        return found._replace(of_weights=[gradient + more for gradient in found.of_weights])


@pytest.fixture(autouse=True)
def no_traces():
    TRACED.clear()


def line(start=1.0, rate=0.1, **options):
    """y = w x without a bias, from w = `start`: the loss is (w x - y)^2, and its gradient 2 x (w x - y)."""
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False)])
    model.set_weights([np.array([[start]])])
    return Learner(model, loss="mse", learning_rate=rate, optimizer_args=options)


def weight(learner):
    return float(learner.get_weights()["000.kernel"][0, 0])


def both_ways(objective, points, epochs=2, batch_size=1, **options):
    """The weight and the last loss, seen to be the same in one graph and epoch by epoch."""
    table = np.array(points, np.float32)
    results = []
    for on_epoch in (None, lambda epoch, result: None):
        learner = line(**options)
        result = learner.train(table[:, :1], table[:, 1:], epochs=epochs, batch_size=batch_size, objective=objective,
                               on_epoch=on_epoch, rng=np.random.default_rng(0))  # fmt: skip
        results.append((weight(learner), result.loss))
    assert results[0] == results[1]
    return results[0]


def test_a_term_beside_the_loss_by_hand():
    # step 1: gradient 4 (2 - 3) + 0.5 = -3.5, w = 1.35; step 2: 4 (2.7 - 3) + 0.5 * 1.35 = -0.525
    assert both_ways(Ridge(0.5), [(2, 3)]) == (pytest.approx(1.4025), pytest.approx(0.3**2))


def test_gradients_of_each_example_by_hand():
    # gradients 4 (2 - 3) = -4 and 2 (1 - 1.25) = -0.5, clipped to -1 and -0.5: w = 1 + 0.1 * 0.75
    one = both_ways(ClippedExamples(1.0), [(2, 3), (1, 1.25)], epochs=1, batch_size=2)
    assert one == (pytest.approx(1.075), pytest.approx((1 + 0.25**2) / 2))
    # then 4 (2.15 - 3) = -3.4 and 2 (1.075 - 1.25) = -0.35: w = 1.075 + 0.1 * 0.675
    assert both_ways(ClippedExamples(1.0), [(2, 3), (1, 1.25)], batch_size=2)[0] == pytest.approx(1.1425)


def test_steps_are_counted_from_epoch_to_epoch():
    # gradients 4 (2w - 3) + step: w = 1.4; then -0.8 + 1, w = 1.38; then -0.96 + 2, w = 1.276
    assert both_ways(Shifted(1.0), [(2, 3)], epochs=3)[0] == pytest.approx(1.276)
    # two batches an epoch, the second short: three examples, all alike, are as good as one
    assert both_ways(Shifted(1.0), [(2, 3)] * 3, epochs=1, batch_size=2)[0] == pytest.approx(1.38)
    # 1.38 - 0.1 * (4 * (2.76 - 3) + 2), and once more with 3
    assert both_ways(Shifted(1.0), [(2, 3)] * 3, batch_size=2)[0] == pytest.approx(1.276 - 0.1 * (4 * -0.448 + 3))


def test_a_proximal_term_is_held_to_the_start_from_epoch_to_epoch():
    # as in test_learning_fedprox: w = 1.4, 1.46, and the anchor stays at 1
    assert both_ways(Proximal(0.5), [(2, 3)], epochs=3)[0] == pytest.approx(1.46 + 0.032 - 0.023)


def test_random_numbers_of_its_own_change_no_order():
    points = [(1, 1), (2, 3), (3, 2), (1, 4), (2, 1)]
    once, again = both_ways(Shifted(0, random=True), points), both_ways(Shifted(0, random=True), points)
    assert once == again != both_ways(None, points)
    assert both_ways(Shifted(0), points) == pytest.approx(both_ways(None, points))


def network():
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(8, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(3, activation="softmax"),
        ]
    )
    return Learner(model, optimizer="adam", learning_rate=0.01, optimizer_args={"use_ema": True, "ema_momentum": 0.5})


@pytest.mark.parametrize("objective", [Proximal(0.5), Ridge()], ids=lambda each: type(each).__name__)
def test_epoch_by_epoch_is_one_training_to_the_bit(objective):
    rng = np.random.default_rng(0)
    x, y = rng.random((23, 4), "float32"), rng.integers(0, 3, 23)
    whole, single, seen = network(), network(), []
    for _ in range(2):  # the second with a used optimizer, and held to another start
        options = {"epochs": 3, "batch_size": 5}
        one = whole.train(x, y, **options, rng=np.random.default_rng(1), objective=objective)
        other = single.train(x, y, **options, rng=np.random.default_rng(1), objective=objective,
                             on_epoch=lambda epoch, result: seen.append((epoch, result)))  # fmt: skip
    assert one == other == seen[-1][1]
    assert [epoch for epoch, _ in seen] == [1, 2, 3] * 2
    for name, array in whole.get_weights().items():
        np.testing.assert_array_equal(single.get_weights()[name], array)


def test_a_graph_is_traced_once_for_each_key():
    learner, table = line(), np.array([[2, 3]], np.float32)

    def train(objective):
        learner.set_weights({"000.kernel": np.array([[1.0]])})
        learner.train(table[:, :1], table[:, 1:], epochs=2, batch_size=1, objective=objective,
                      rng=np.random.default_rng(0))  # fmt: skip
        return weight(learner)

    assert [train(Shifted(amount)) for amount in (0.0, 1.0, 2.0)] == pytest.approx([1.48, 1.38, 1.28])
    assert (TRACED.count("begun"), TRACED.count("shifted")) == (3, 1)
    assert [train(Proximal(mu)) for mu in (0.5, 0.25)] == pytest.approx([1.46, 1.47])
    assert len(learner._graphs) == 2
    assert [train(Ridge(strength)) for strength in (0.5, 0.0, 0.5)] == pytest.approx([1.4025, 1.48, 1.4025])
    assert TRACED[-2:] == [0.5, 0.0] and len(learner._graphs) == 4


def test_an_optimizer_that_scales_losses_gets_what_it_expects():
    plain, scaled = both_ways(Proximal(0.5), [(2, 3)]), both_ways(Proximal(0.5), [(2, 3)], loss_scale_factor=1024)
    assert plain == scaled
    assert plain[0] == pytest.approx(1.46)


def test_an_objective_by_name():
    own = f"{__name__}:Ridge"
    assert objective_of({}, Permission()) is objective_of({"proximal-mu": 0.0}, Permission()) is None
    assert objective_of({"objective": "proximal:mu=0"}, Permission()) is None
    assert objective_of({"proximal-mu": 0.25}, Permission()).mu == 0.25
    assert objective_of({"objective": "proximal:mu=0.25"}, Permission()).mu == 0.25
    for permission in (EVERYTHING, Permission.parse(f"objectives={own}")):
        assert objective_of({"objective": f"{own}:strength=2"}, permission).strength == 2


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"objective": f"{__name__}:Ridge"}, "not built in"),
        ({"objective": "ridge"}, "not built in"),
        ({"objective": "proximal:mu=-1"}, r"mu=-1 must be 0 or more.*it takes: mu"),
        ({"objective": "proximal:nu=1"}, r"nu.*it takes: mu"),
        ({"proximal-mu": float("nan")}, "proximal-mu: mu=nan must be 0 or more"),
        ({"proximal-mu": 0.1, "objective": "proximal:mu=0.1"}, "one objective at a time"),
    ],
)
def test_what_is_refused(config, said):
    with pytest.raises(UserError, match=said):
        objective_of(config, Permission())
