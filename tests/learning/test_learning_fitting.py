"""Training with validation and early stopping, on models whose losses can be computed by hand."""

import keras
import numpy as np
import pytest
from keras import layers

from fedkeras.errors import UserError
from fedkeras.learning import Learner
from fedkeras.learning.early_stopping import fit, hold_back
from fedkeras.learning.learner import place_for_target


def line(rate=0.1, optimizer="sgd", **options):
    """y = w x without a bias, w = 0: the loss is (w x - y)^2, and its gradient 2 x (w x - y)."""
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    return Learner(model, optimizer=optimizer, learning_rate=rate, loss="mse", optimizer_args=options)


def weight(learner):
    return float(learner.get_weights()["000.kernel"][0, 0])


def points(pairs):
    table = np.array(pairs, np.float32)
    return table[:, :1], table[:, 1:]


def test_epochs_by_hand():
    learner = line()
    x, y = learner.place(*points([(1, 1), (1, 3), (1, 5)]))
    seen = []
    fitted = fit(learner, x, y, epochs=2, batch_size=2, rows=np.array([0, 1]), validation=np.array([2]),
                 rng=np.random.default_rng(0), on_epoch=seen.append)  # fmt: skip
    # one batch an epoch: w = 0, loss (1 + 9) / 2 = 5, gradient -4, w = 0.4; then loss (0.36 + 6.76) / 2, w = 0.72
    assert [e.loss for e in fitted.epochs] == pytest.approx([5, 3.56])
    assert [e.val_loss for e in fitted.epochs] == pytest.approx([4.6**2, 4.28**2])
    assert weight(learner) == pytest.approx(0.72)
    assert (fitted.best, fitted.stopped_early, seen) == (2, False, fitted.epochs)
    assert [e.epoch for e in seen] == [1, 2] and all(e.seconds > 0 and e.accuracy is None for e in seen)


def test_early_stopping_gives_back_the_best_weights():
    learner = line()
    x, y = learner.place(*points([(1, 10), (1, 3)]))  # trained towards 10; the validation is best near 3
    options = {"batch_size": 1, "rows": np.array([0]), "validation": np.array([1])}
    fitted = fit(learner, x, y, epochs=50, patience=2, rng=np.random.default_rng(0), **options)
    # w = 2, 3.6, 4.88, 5.9: validation losses 1, 0.36, 3.5, 8.4
    assert [e.val_loss for e in fitted.epochs] == pytest.approx([1, 0.36, 1.88**2, 2.904**2], rel=1e-5)
    assert (fitted.best, fitted.stopped_early) == (2, True)
    assert weight(learner) == pytest.approx(3.6)
    again = line()
    fitted = fit(again, x, y, epochs=50, patience=2, min_delta=0.7, rng=np.random.default_rng(0), **options)
    assert (fitted.best, len(fitted.epochs)) == (1, 3)  # 0.64 lower is not enough
    assert weight(again) == pytest.approx(2)


def test_a_loss_that_is_not_finite_ends_it():
    learner = line(rate=1e20)
    x, y = learner.place(*points([(1, 1), (1, 3)]))
    fitted = fit(learner, x, y, epochs=50, batch_size=1, rng=np.random.default_rng(0))
    assert len(fitted.epochs) < 5 and fitted.stopped_early


def network(optimizer, **options):
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
    return Learner(model, optimizer=optimizer, learning_rate=0.01, optimizer_args=options)


@pytest.mark.parametrize(
    ("optimizer", "options"), [("adam", {}), ("sgd", {"use_ema": True, "ema_momentum": 0.5}), ("adagrad", {})]
)
def test_epoch_by_epoch_is_one_training_to_the_bit(optimizer, options):
    rng = np.random.default_rng(0)
    x, y = rng.random((23, 4), "float32"), rng.integers(0, 3, 23)
    whole, steps = network(optimizer, **options), network(optimizer, **options)
    whole.train(x, y, epochs=1, batch_size=5, rng=np.random.default_rng(9))  # leaves a used optimizer behind
    steps.train(x, y, epochs=1, batch_size=5, rng=np.random.default_rng(9))
    outcome = whole.train(x, y, epochs=3, batch_size=5, rng=np.random.default_rng(1))
    fitted = fit(steps, *steps.place(x, y), epochs=3, batch_size=5, rng=np.random.default_rng(1))
    assert (fitted.epochs[-1].loss, fitted.epochs[-1].accuracy) == (outcome.loss, outcome.accuracy)
    for name, array in whole.get_weights().items():
        np.testing.assert_array_equal(steps.get_weights()[name], array)


def test_the_same_seed_gives_the_same_and_another_another():
    rng = np.random.default_rng(0)
    x, y = rng.random((23, 4), "float32"), rng.integers(0, 3, 23)
    results = []
    for seed in (1, 1, 2):
        learner = network("adam")
        fitted = fit(learner, *learner.place(x, y), epochs=2, batch_size=5, rng=np.random.default_rng(seed),
                     rows=np.arange(15), validation=np.arange(15, 23), patience=5)  # fmt: skip
        results.append((fitted.epochs[-1].val_loss, learner.get_weights()["000.kernel"].tobytes()))
    assert results[0] == results[1] != results[2]


def test_a_model_with_a_step_of_its_own_keeps_its_optimizer_between_epochs():
    class Own(keras.Sequential):
        def train_step(self, data):
            return super().train_step(data)

    def learner(kind):
        model = kind([keras.Input((1,)), layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
        return Learner(model, optimizer="sgd", learning_rate=0.1, loss="mse", optimizer_args={"momentum": 0.9})

    got = []
    for made in (learner(Own), learner(keras.Sequential)):
        x, y = made.place(*points([(1, 10)]))
        fit(made, x, y, epochs=3, batch_size=1, rng=np.random.default_rng(0))
        got.append(weight(made))
    assert got[0] == pytest.approx(got[1])


def test_hold_back():
    classes = np.repeat([0, 1, 2], [50, 30, 20])
    rows, held = hold_back(100, 0.2, np.random.default_rng(0), classes)
    assert np.array_equal(np.sort(np.concatenate([rows, held])), np.arange(100))
    assert np.bincount(classes[held]).tolist() == [10, 6, 4]
    assert [len(part) for part in hold_back(1, 0.5, np.random.default_rng(0))] == [1, 0]
    assert [len(part) for part in hold_back(10, 0.0, np.random.default_rng(0))] == [10, 0]
    assert [len(part) for part in hold_back(3, 0.01, np.random.default_rng(0))] == [2, 1]
    with pytest.raises(ValueError, match="below 1"):
        hold_back(10, 1.0, np.random.default_rng(0))


def test_rows_cannot_be_both():
    learner = line()
    x, y = learner.place(*points([(1, 1), (1, 3)]))
    with pytest.raises(ValueError, match="no validation data"):
        fit(learner, x, y, epochs=1, batch_size=1, validation=np.array([1]), rng=np.random.default_rng(0))


def test_what_is_learned_from_what():
    learner = line()
    x = np.array([[1], [2]], np.float32)
    # the output has the shape of the input, and whole numbers: amounts under XY, not looked at under XX
    assert place_for_target(learner, x, np.array([300, 7]), "XY")[1].numpy().tolist() == [[300], [7]]
    assert place_for_target(learner, x, np.array([300, 7]), "XX")[1].numpy().tolist() == [[1], [2]]
    flat = Learner(keras.Sequential([keras.Input((2, 2)), layers.Flatten(), layers.Dense(4)]), loss="mse")
    images = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    # columns of numbers are put into the shape that the model takes
    assert place_for_target(flat, images.reshape(2, 4), None, "XX")[0].shape == (2, 2, 2)
    assert place_for_target(flat, images, None, "XX")[1].numpy().tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    for made, y, target, said in [
        (network("sgd"), None, "XX", "--target XX compares numbers"),
        (line(), None, "XY", "--target XY needs targets"),
        (line(), None, "YX", "allowed are: XY, XX"),
        (Learner(keras.Sequential([keras.Input((1,)), layers.Dense(2)]), loss="mse"), None, "XX", "gives back"),
    ]:
        with pytest.raises(UserError, match=said):
            place_for_target(made, x if made.model.input_shape == (None, 1) else np.zeros((2, 4)), y, target)
    with pytest.raises(UserError, match="the data do not fit the model"):
        place_for_target(line(), np.zeros((3, 7)), np.zeros(3), "XY")
