"""Which class a model takes each example for, and of which models that is no question."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from fedkeras.learning.classes import predicted_classes

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


def test_a_single_output_is_a_probability_or_a_logit():
    kernel = [[-0.1], [0.1], [0.9]]
    assert predicted_classes(model(kernel, "sigmoid"), X, LABELS, 2).tolist() == [0, 1, 1]
    assert predicted_classes(model(kernel), X, LABELS, 2).tolist() == [0, 1, 1]
    assert predicted_classes(model(kernel), X, LABELS, 3) is None


def test_what_is_no_classifier_has_no_classes():
    three = model(np.eye(3))
    assert predicted_classes(three, X, LABELS.astype("float32"), 3) is None
    assert predicted_classes(three, X, X.numpy(), 3) is None
    assert predicted_classes(three, X, np.array([0, 1, 3]), 3) is None, "a label beyond the classes"
