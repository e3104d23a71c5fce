"""Weights of examples and of classes: what Keras' `fit` makes of them, to the bit; and by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from fedkeras import models
from fedkeras.errors import UserError
from fedkeras.learning import Learner
from fedkeras.learning.cross_validation import cross_validate
from fedkeras.learning.early_stopping import fit
from fedkeras.learning.learner import draw
from fedkeras.learning.objectives import Objective, Proximal
from fedkeras.learning.sample_weights import combined

CLASSES = {0: 0.5, 1: 2.0, 2: 1.25}
RNG = np.random.default_rng(0)
X, Y, SAMPLE = RNG.random((23, 5), "float32"), RNG.integers(0, 3, 23), RNG.random(23) * 3
KINDS = {  # loss: units, activation, targets
    "sparse_categorical_crossentropy": (3, "softmax", Y),
    "categorical_crossentropy": (3, "softmax", np.eye(3, dtype="float32")[Y]),
    "binary_crossentropy": (1, "sigmoid", (Y > 0).astype("float32")[:, None]),
    "mse": (3, None, np.eye(3, dtype="float32")[Y]),
}


def classifier(units=3, activation="softmax"):
    keras.utils.set_random_seed(1)
    hidden = [layers.Dense(6, "relu", kernel_regularizer=keras.regularizers.L2(0.1)), layers.BatchNormalization()]
    return keras.Sequential([keras.Input((5,)), *hidden, layers.Dropout(0.3), layers.Dense(units, activation)])


def fit_of_keras(loss, y, **weights):
    """Weights after Keras' own training, in the orders and with the random states of a Learner, and its last loss."""
    units, activation, _ = KINDS[loss]
    model = classifier(units, activation)
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss=loss, jit_compile=False)
    states = models.random_states(model)
    values, orders = draw(np.random.default_rng(9), len(states), len(X), 2)
    for state, value in zip(states, values, strict=True):
        state.assign(value)
    for order in orders:
        own = {name: value[order] if name == "sample_weight" else value for name, value in weights.items()}
        history = model.fit(X[order], y[order], batch_size=5, shuffle=False, verbose=0, **own).history
    return models.get_weights(model), history["loss"][-1]


@pytest.mark.parametrize("loss", KINDS)
def test_weights_of_examples_and_of_classes_are_fits_to_the_bit(loss):
    units, activation, y = KINDS[loss]
    learner = Learner(classifier(units, activation), optimizer="adam", learning_rate=0.05, loss=loss)
    start, (x, targets) = learner.get_weights(), learner.place(X, y)
    both = np.array([CLASSES[c] for c in _classes(y)]) * SAMPLE  # Keras takes one of the two at a time
    cases = [(None, CLASSES, {"class_weight": CLASSES})]
    if loss == "sparse_categorical_crossentropy":
        cases += [(SAMPLE, None, {"sample_weight": SAMPLE.astype("float32")})]
        cases += [(SAMPLE, CLASSES, {"sample_weight": both.astype("float32")})]
    for by_sample, by_class, of_keras in cases:
        weights = combined(targets, by_sample, by_class and list(by_class.values()))
        expected, last = fit_of_keras(loss, y, **of_keras)
        for on_epoch in (None, lambda number, result: None)[: len(cases)]:  # in one graph, and epoch by epoch
            learner.set_weights(start)
            found = learner.train(
                x, targets, epochs=2, batch_size=5, rng=np.random.default_rng(9), sample_weight=weights,
                on_epoch=on_epoch,
            )  # fmt: skip
            for name, array in expected.items():
                np.testing.assert_array_equal(learner.get_weights()[name], array, err_msg=f"{of_keras.keys()} {name}")
            assert found.loss == pytest.approx(last, rel=1e-5)


def _classes(y):
    return np.argmax(y, axis=1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(-1).astype(int)


def line(objective=None, **more):
    """y = w x from w = 1 with rate 0.1: (w x - y)^2, of (2, 3) and (1, 2) in one batch."""
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False)])
    model.set_weights([np.array([[1.0]])])
    learner = Learner(model, loss="mse", learning_rate=0.1)
    x, y = np.array([[2.0], [1.0]], "float32"), np.array([[3.0], [2.0]], "float32")
    weights = np.array([2.0, 0.5])
    result = learner.train(
        x, y, batch_size=2, rng=np.random.default_rng(0), objective=objective, sample_weight=weights,
        **{"epochs": 1, **more},
    )  # fmt: skip
    return float(learner.get_weights()["000.kernel"][0, 0]), result.loss


def test_a_weighted_step_by_hand_alone_and_under_an_objective():
    # losses 1 and 1, weighted 2 and 0.5: mean 1.25. Gradients 2 * -4 and 0.5 * -2, mean -4.5: w = 1.45
    assert line() == (pytest.approx(1.45), pytest.approx(1.25))
    assert line(Proximal(0.5)) == (pytest.approx(1.45), pytest.approx(1.25))
    # the second: 2 * 4 (2.9 - 3) and 0.5 * 2 (1.45 - 2), mean -0.675, and 0.5 * 0.45 of the term: w = 1.495
    assert line(Proximal(0.5), epochs=2)[0] == pytest.approx(1.495)


class Unweighted(Objective):
    def gradients(self, model, x, y, weights, begun, step):
        return super().gradients(model, x, y, weights, begun, step)


def test_an_objective_that_takes_no_weights_is_refused_and_not_trained_without_them():
    with pytest.raises(UserError, match="Unweighted takes none"):
        line(Unweighted())


class OwnStep(keras.Model):
    def train_step(self, data):
        return super().train_step(data)


def test_an_own_train_step_is_given_the_weights():
    inputs = keras.Input((5,))
    own, plain = (kind(inputs, layers.Dense(3, "softmax", kernel_initializer="ones")(inputs))
                  for kind in (OwnStep, keras.Model))  # fmt: skip
    results = []
    for model in (own, plain):
        learner = Learner(model)
        learner.train(X, Y, epochs=1, batch_size=5, rng=np.random.default_rng(2), sample_weight=SAMPLE)
        results.append(learner.get_weights()["000.kernel"])
    np.testing.assert_array_equal(*results)


def test_a_row_of_weight_0_is_as_if_it_had_another_target_and_validation_is_unweighted():
    """In `fit` with validation, and in the folds of k-fold: its target decides nothing but the held-out figures."""
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False)])
    learner, start = Learner(model, loss="mse", learning_rate=0.1), {"000.kernel": np.array([[1.0]])}
    x, rows, weights = np.ones((4, 1), "float32"), np.arange(3), tf.constant([0.0, 1.0, 1.0, 0.0])
    ends, tested, folds = [], [], []
    for odd in (5.0, 70.0):
        y = np.array([[odd], [1.0], [2.0], [3.0]], "float32")
        learner.set_weights(start)
        options = {"epochs": 2, "batch_size": 3, "sample_weight": weights}
        found = fit(learner, *learner.place(x, y), rng=np.random.default_rng(0), rows=rows,
                    validation=np.array([3]), **options)  # fmt: skip
        ends.append(float(learner.get_weights()["000.kernel"][0, 0]))
        tested.append(found.epochs[-1].val_loss)
        learner.set_weights(start)
        done = cross_validate(learner, lambda fold, y=y: learner.place(x, y), [(rows, np.array([3]))],
                              rng=np.random.default_rng(0), **options)  # fmt: skip
        folds.append(done.folds[0].outcome.loss)
    # w = 1: of targets 1 and 2, gradients 0 and -2, divided by three rows: 1 + 0.2 / 3; then 2 (2 w - 3) / 3
    first = 1 + 0.2 / 3
    assert ends[0] == ends[1] == pytest.approx(first - 0.1 * 2 * (2 * first - 3) / 3)
    assert tested[0] == tested[1] == folds[0] == folds[1] == pytest.approx((ends[0] - 3) ** 2)


@pytest.mark.parametrize(
    ("targets", "classes"),
    [
        (np.array([[1.0, 1.0], [0.0, 1.0]]), [1, 1]),  # several labels at once
        (np.array([[0.5], [2.0]]), [1, 1, 1]),  # amounts
        (np.array([0, 2]), [1, 1]),  # a class that nobody counted
        (np.zeros((2, 4, 4)), [1, 1]),  # a picture
    ],
)
def test_class_weights_of_targets_that_are_no_classes_are_refused(targets, classes):
    with pytest.raises(UserError, match="--class-weight balanced needs one class an example"):
        combined(targets, None, classes)


def test_a_wrong_number_of_weights_is_refused():
    with pytest.raises(ValueError, match=r"23 examples, and weights of shape \(22,\)"):
        Learner(classifier()).train(
            X, Y, epochs=1, batch_size=5, rng=np.random.default_rng(0), sample_weight=SAMPLE[1:]
        )
