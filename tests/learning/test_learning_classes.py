"""Which class a model takes each example for, and of which models that is no question."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from fedkeras import models
from fedkeras.learning import Learner
from fedkeras.learning.targets import predicted_classes

X = tf.constant([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
LABELS = np.array([0, 1, 0])


def model(kernel, activation=None):
    made = keras.Sequential([keras.Input((3,)), layers.Dense(len(kernel[0]), activation=activation, use_bias=False)])
    made.set_weights([np.array(kernel, "float32")])
    return made


def test_the_largest_output_is_the_class():
    three = model([[0, 5, 1], [2, 1, 0], [0, 0, 3]], "softmax")
    assert predicted_classes(three, X, LABELS, 3).tolist() == [1, 0, 2]
    assert predicted_classes(three, X, LABELS, 4) is None, "not the classes of this data"


@pytest.mark.parametrize(
    ("loss", "activation", "expected"),
    [
        ("binary_crossentropy", "sigmoid", [0, 1, 1]),
        ("binary_crossentropy", None, [0, 1, 1]),  # logits, whatever the name alone means to Keras
        (keras.losses.BinaryCrossentropy(from_logits=True), None, [0, 1, 1]),
        ("hinge", None, [0, 1, 1]),
        ("mse", None, [0, 0, 1]),
    ],
)
def test_a_single_output_is_a_probability_or_a_logit_as_the_loss_says(loss, activation, expected):
    one = Learner(model([[-0.1], [0.1], [0.9]], activation), loss=loss)
    found = predicted_classes(one.model, X, LABELS, 2)
    assert found.tolist() == expected
    assert predicted_classes(one.model, X, LABELS, 3) is None
    accuracy = one.evaluate(X, LABELS).accuracy
    assert accuracy is None or accuracy == pytest.approx(np.mean(found == LABELS))


def test_accuracy_of_logits_is_kept_in_a_file(tmp_path):
    learner = Learner(model([[-0.1], [0.1], [0.9]]), loss=keras.losses.BinaryCrossentropy(from_logits=True))
    models.save(learner.model, tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert again.evaluate(X, LABELS, verbose=0)[1] == pytest.approx(2 / 3)


def test_what_is_no_classifier_has_no_classes():
    three = model(np.eye(3))
    assert predicted_classes(three, X, LABELS.astype("float32"), 3) is None
    assert predicted_classes(three, X, X.numpy(), 3) is None
    assert predicted_classes(three, X, np.array([0, 1, 3]), 3) is None, "a label beyond the classes"
