"""Which loss, which metric and which targets a model gets."""

import keras
import numpy as np
import pytest
from keras import layers

from fedkeras import models
from fedkeras.errors import UserError
from fedkeras.learning import Learner

X = np.random.default_rng(0).random((6, 4), "float32")
LABELS = np.array([0, 1, 2, 0, 1, 2])


def classifier(outputs=3, activation="softmax", loss=None):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(outputs, activation=activation)])
    if loss:
        model.compile(loss=loss)
    return model


def test_a_classifier_learns_class_numbers_unless_it_brings_its_own_loss_or_one_is_given():
    assert Learner(classifier()).loss == "sparse_categorical_crossentropy"
    assert Learner(classifier(loss="mse")).loss == "mse"
    assert Learner(classifier(loss="mse"), loss="kl_divergence").loss == "kl_divergence"
    with pytest.raises(UserError, match="--loss is 'crossed_entropy'"):
        Learner(classifier(), loss="crossed_entropy")
    with pytest.raises(UserError, match="metrics of Keras: nonsense"):
        Learner(classifier(), metrics=("nonsense",))


@pytest.mark.parametrize("loss", ["categorical_crossentropy", "mse", "CategoricalCrossentropy"])
def test_labels_become_vectors_for_a_loss_that_compares_vectors(loss):
    learner = Learner(classifier(), loss=loss)
    by_label = learner.evaluate(X, LABELS)
    assert by_label == learner.evaluate(X, np.eye(3)[LABELS])
    expected = np.mean(np.argmax(learner.model(X), axis=1) == LABELS)
    assert by_label.accuracy == pytest.approx(expected)


def test_one_output_takes_labels_0_and_1():
    learner = Learner(classifier(1, "sigmoid"), loss="binary_crossentropy")
    labels = np.array([0, 1, 1, 0, 1, 0])
    p = np.asarray(learner.model(X))[:, 0]
    outcome = learner.evaluate(X, labels)
    assert outcome.loss == pytest.approx(-np.mean(np.where(labels == 1, np.log(p), np.log(1 - p))), rel=1e-4)
    assert outcome.accuracy == pytest.approx(np.mean((p > 0.5) == labels))
    with pytest.raises(ValueError, match="labels must lie in 0 to 1; these lie in 0 to 2"):
        learner.evaluate(X, LABELS)


def test_an_autoencoder_learns_its_input():
    model = models.build("autoencoder", input_shape=(4,), num_classes=3)
    learner = Learner(model)
    expected = np.mean((np.asarray(model(X)) - X) ** 2)
    for y in (LABELS, None, X):
        outcome = learner.evaluate(*learner.place(X, y))
        assert outcome.loss == pytest.approx(expected, rel=1e-5)
        assert outcome.accuracy is None


def test_grey_pixels_have_no_accuracy_under_a_binary_loss():
    learner = Learner(models.build("autoencoder", input_shape=(4,), num_classes=3), loss="binary_crossentropy")
    assert learner.evaluate(X, LABELS).accuracy is None


@pytest.mark.parametrize("loss", ["categorical_crossentropy", keras.losses.CategoricalFocalCrossentropy()])
def test_as_many_features_as_classes_make_no_autoencoder(loss):
    learner = Learner(classifier(4), loss=loss)
    _, targets = learner.place(X, LABELS)
    np.testing.assert_array_equal(targets, np.eye(4)[LABELS])


def test_one_feature_and_one_output_learn_their_labels():
    one = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, activation="sigmoid")])
    _, targets = Learner(one, loss="binary_crossentropy").place(X[:, :1], LABELS % 2)
    np.testing.assert_array_equal(targets, LABELS[:, None] % 2)


def test_told_that_labels_count_a_model_does_not_learn_its_input():
    learner = Learner(classifier(4, "relu"), loss="mse")
    np.testing.assert_array_equal(learner.place(X, LABELS)[1], X)
    np.testing.assert_array_equal(learner.place(X, LABELS, from_itself=False)[1], np.eye(4)[LABELS])
    np.testing.assert_array_equal(Learner(classifier(4), loss="mse").place(X, LABELS)[1], np.eye(4)[LABELS])


def test_a_regression_takes_its_targets_flat():
    learner = Learner(classifier(1, None), loss="mse")
    expected = np.mean((np.asarray(learner.model(X))[:, 0] - X[:, 0]) ** 2)
    assert learner.evaluate(X, X[:, 0]).loss == pytest.approx(expected, rel=1e-5)
    assert learner.evaluate(X, X[:, 0]).accuracy is None


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, LABELS + 1, "labels must lie in 0 to 2; these lie in 1 to 3"),
        (X, LABELS - 1, "labels must lie in 0 to 2; these lie in -1 to 1"),
        (X, LABELS + 0.5, "labels must be whole numbers, not float64"),
        (X, LABELS[:5], "there are 6 examples and 5 labels"),
        (X, None, "labels are missing"),
        (X[:0], LABELS[:0], "there are no examples"),
        (X[:, :2], LABELS, r"examples have shape \(2,\); the model takes \(4,\)"),
    ],
)
def test_data_that_does_not_fit_is_refused_with_numbers(x, y, message):
    with pytest.raises(ValueError, match=message):
        Learner(classifier()).place(x, y)


def test_targets_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"targets have shape \(2,\); the model's output has \(3,\)"):
        Learner(classifier(), loss="mse").place(X, X[:, :2])


def test_nonsense_numbers_of_epochs_and_batches_are_refused():
    learner = Learner(classifier())
    for epochs, batch_size in [(0, 1), (1, 0)]:
        with pytest.raises(ValueError, match="start at 1"):
            learner.train(X, LABELS, epochs=epochs, batch_size=batch_size, rng=np.random.default_rng(0))
