"""The graph does what Keras' own loops do, to the bit where the order is the same."""

import keras
import numpy as np
import pytest
from keras import layers

from fedkeras import models
from fedkeras.learning import Learner
from fedkeras.learning.learner import draw


def awkward():
    """Convolution, BatchNorm, two Dropouts and a penalty on weights: all that carries state or adds to the loss."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(4, 3, kernel_regularizer=keras.regularizers.L2(0.1)),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(8, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(3, activation="softmax"),
        ]
    )


def data(n=23):
    rng = np.random.default_rng(0)
    return rng.random((n, 6, 6, 1), "float32"), rng.integers(0, 3, n)


def fit_in_the_same_order(model, x, y, epochs, batch_size, rng):
    """Keras' own training with the orders and random states a Learner draws from `rng`; the last epoch's logs."""
    states = [v for v in model.variables if not any(v is w for w in model.weights)]
    values, orders = draw(rng, len(states), len(x), epochs)
    for state, value in zip(states, values, strict=True):
        state.assign(value)
    for order in orders:
        history = model.fit(x[order], y[order], batch_size=batch_size, shuffle=False, verbose=0).history
    return {name: value[-1] for name, value in history.items()}


def compile_as_keras_does(model, optimizer, options):
    made = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam, "adagrad": keras.optimizers.Adagrad}[optimizer]
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer=made(0.05, **options), loss=loss, metrics=["accuracy"], jit_compile=False)


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        ("sgd", {"momentum": 0.9, "nesterov": True}),
        ("adam", {}),
        *(pytest.param(name, {}, marks=pytest.mark.slow) for name in ("sgd", "adagrad")),
    ],
)
def test_training_equals_fit_with_a_short_last_batch(optimizer, options):
    x, y = data()
    ours, keras_own = awkward(), awkward()
    learner = Learner(ours, optimizer=optimizer, learning_rate=0.05, optimizer_args=options)
    outcome = learner.train(x, y, epochs=2, batch_size=5, rng=np.random.default_rng(9))
    compile_as_keras_does(keras_own, optimizer, options)
    logs = fit_in_the_same_order(keras_own, x, y, 2, 5, np.random.default_rng(9))
    for name, array in models.get_weights(keras_own).items():
        np.testing.assert_array_equal(learner.get_weights()[name], array, err_msg=name)
    assert outcome.loss == pytest.approx(logs["loss"], rel=1e-5)
    assert outcome.accuracy == pytest.approx(logs["accuracy"], rel=1e-6)
    assert outcome.num_examples == 23
    assert outcome.metrics == {}


def test_averaged_weights_are_put_in_at_the_end_as_fit_does():
    x, y = data()
    ours, keras_own = awkward(), awkward()
    learner = Learner(ours, optimizer="adam", learning_rate=0.05, optimizer_args={"use_ema": True})
    learner.train(x, y, epochs=1, batch_size=5, rng=np.random.default_rng(9))
    compile_as_keras_does(keras_own, "adam", {"use_ema": True})
    fit_in_the_same_order(keras_own, x, y, 1, 5, np.random.default_rng(9))
    for name, array in models.get_weights(keras_own).items():
        np.testing.assert_array_equal(learner.get_weights()[name], array, err_msg=name)


def test_evaluation_equals_keras_and_counts_a_short_last_batch_as_what_it_is():
    x, y = data()
    learner = Learner(awkward(), metrics=("sparse_top_k_categorical_accuracy",))
    before = learner.get_weights()
    outcome = learner.evaluate(x, y, batch_size=5)
    logs = learner.model.evaluate(x, y, batch_size=len(x), verbose=0, return_dict=True)
    assert outcome.loss == pytest.approx(logs["loss"], rel=1e-5)
    assert outcome.accuracy == pytest.approx(np.mean(np.argmax(learner.model(x), axis=1) == y), rel=1e-6)
    assert outcome.metrics == {"sparse_top_k_categorical_accuracy": 1.0}  # of three classes, each is in the top five
    assert all(np.array_equal(before[name], now) for name, now in learner.get_weights().items())


def test_the_loss_is_the_mean_over_examples_by_hand():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False)])
    model.set_weights([np.array([[1.0]])])
    learner = Learner(model, loss="mse")
    x = np.array([[1.0], [1.0], [4.0]])  # squared errors against 0: 1, 1, 16; batches of 2 and 1
    outcome = learner.evaluate(x, np.zeros((3, 1)), batch_size=2)
    assert outcome.loss == pytest.approx(6.0)
    assert outcome.accuracy is None


def test_an_evaluation_counts_nothing_from_before_it():
    learner = Learner(awkward())
    x, y = data()
    right = np.argmax(learner.model(x), axis=1) == y
    assert 0 < right.sum() < len(y)
    assert learner.evaluate(x[right], y[right]).accuracy == 1.0
    assert learner.evaluate(x[~right], y[~right]).accuracy == 0.0


def test_a_training_of_another_length_compiles_nothing_anew():
    traces, outcomes = [], []

    def sparse_counting(y_true, y_pred):
        traces.append(1)
        return keras.losses.sparse_categorical_crossentropy(y_true, y_pred)

    learner = Learner(awkward(), loss=sparse_counting)
    for n, epochs, batch_size in [(23, 1, 5), (7, 3, 2), (1, 1, 64), (16, 2, 16)]:
        learner.train(*data(n), epochs=epochs, batch_size=batch_size, rng=np.random.default_rng(0))
        outcomes.append(learner.evaluate(*data(n), batch_size=batch_size))
    assert len(traces) == 2  # one for training, one for evaluation
    anew = Learner(learner.model)  # whose first graph meets the last data
    again = anew.evaluate(*data(16))
    assert (again.loss, again.accuracy) == (pytest.approx(outcomes[-1].loss), outcomes[-1].accuracy)


def test_dropout_follows_the_generator():
    start = models.get_weights(awkward())
    learner, results = Learner(awkward()), []
    placed = learner.place(*data())
    for seed in (1, 1, 2):
        learner.set_weights(start)
        learner.train(*placed, epochs=1, batch_size=23, rng=np.random.default_rng(seed))  # one batch: no order
        results.append(learner.get_weights()["006.kernel"])
    assert np.array_equal(results[0], results[1])
    assert not np.allclose(results[0], results[2], atol=1e-5)


def test_arrays_given_and_taken_are_not_trained_upon():
    learner = Learner(awkward())
    given = models.get_weights(awkward())
    copies = {name: array.copy() for name, array in given.items()}
    learner.set_weights(given)
    taken = learner.get_weights()
    learner.train(*data(), epochs=1, batch_size=5, rng=np.random.default_rng(0))
    assert not np.array_equal(learner.get_weights()["000.kernel"], copies["000.kernel"])
    for name, array in copies.items():
        np.testing.assert_array_equal(given[name], array)
        np.testing.assert_array_equal(taken[name], array)


def test_a_diverged_training_says_nan():
    learner = Learner(awkward(), learning_rate=1e30)
    outcome = learner.train(*data(), epochs=3, batch_size=5, rng=np.random.default_rng(0))
    assert not np.isfinite(outcome.loss)


def test_mixed_precision_trains_like_float32():
    x, y = data(64)
    y = (x.mean(axis=(1, 2, 3)) > 0.5).astype(int)
    full = models.build("digits_cnn", input_shape=(6, 6, 1), num_classes=2)
    mixed = models.build("digits_cnn", input_shape=(6, 6, 1), num_classes=2, precision="mixed_bfloat16")
    losses = [
        Learner(model).train(x, y, epochs=3, batch_size=16, rng=np.random.default_rng(0)).loss
        for model in (full, mixed)
    ]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
