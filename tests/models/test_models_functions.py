"""A user's own function as a model."""

import sys
import types

import keras
import numpy as np
import pytest
from keras import layers

from fedkeras import models
from fedkeras.errors import UserError


@pytest.fixture
def mine(monkeypatch):
    module = types.ModuleType("my_models")
    monkeypatch.setitem(sys.modules, "my_models", module)
    return module


def build(name="my_models:make"):
    return models.build(name, input_shape=(4,), num_classes=3, seed=1)


def test_it_is_called_with_shapes_and_seeded(mine):
    def make(input_shape, num_classes):
        return keras.Sequential([keras.Input(input_shape), layers.Dense(num_classes)])

    mine.make = make
    first, second = models.get_weights(build()), models.get_weights(build())
    assert first["000.kernel"].shape == (4, 3)
    np.testing.assert_array_equal(first["000.kernel"], second["000.kernel"])


def test_a_subclassed_model_is_built_and_seeded(mine):
    class Subclassed(keras.Model):
        def __init__(self, classes):
            super().__init__()
            self.dense = layers.Dense(classes)

        def call(self, x):
            return self.dense(x)

    mine.make = lambda input_shape, num_classes: Subclassed(num_classes)
    first, second = models.get_weights(build()), models.get_weights(build())
    assert list(first) == ["000.kernel", "001.bias"]
    np.testing.assert_array_equal(first["000.kernel"], second["000.kernel"])
    mine.make = lambda input_shape, num_classes: Subclassed(7)
    with pytest.raises(UserError, match=r"outputs of shape \(7,\)"):
        build()
    mine.make = lambda input_shape, num_classes: Subclassed(num_classes)
    with pytest.raises(UserError, match="cannot rebuild this model"):
        models.build("my_models:make", input_shape=(4,), num_classes=3, precision="mixed_bfloat16")


def test_what_is_not_there_or_no_model_is_one_line(mine):
    mine.make = lambda input_shape, num_classes: "a text"
    with pytest.raises(UserError, match=r"returned str, not a keras\.Model"):
        build()
    with pytest.raises(UserError, match="No module named 'nowhere'"):
        build("nowhere:make")
    with pytest.raises(UserError, match="no attribute 'other'"):
        build("my_models:other")
    mine.make = lambda shape: None
    with pytest.raises(UserError, match="unexpected keyword argument 'input_shape'"):
        build()
