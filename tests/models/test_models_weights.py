"""Weights travel under names that do not depend on what else a process has built."""

import keras
import numpy as np
import pytest
from keras import layers

from fedkeras import models


class Unnamed(layers.Layer):
    """A layer that names its weight nothing, which Keras then numbers by what the process has made."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return x * self.scale


def small():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.BatchNormalization()])
    return keras.Sequential([keras.Input((4,)), inner, layers.Dropout(0.5), Unnamed(), layers.Dense(2)])


def test_names_are_the_same_for_a_model_built_twice_and_hold_batch_norm_but_no_random_state():
    assert small().layers[0].name != small().layers[0].name  # else this test shows nothing
    expected = ["kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance", "variable", "kernel", "bias"]
    expected = [f"{i:03d}.{role}" for i, role in enumerate(expected)]
    assert list(models.get_weights(small())) == list(models.get_weights(small())) == expected


def test_set_and_get_are_inverse_in_any_order_and_share_no_memory():
    model = small()
    rng = np.random.default_rng(0)
    wanted = {name: rng.random(w.shape, "float32") for name, w in models.get_weights(model).items()}
    models.set_weights(model, dict(reversed(wanted.items())))
    got = models.get_weights(model)
    assert all(np.array_equal(got[name], wanted[name]) for name in wanted)
    wanted["000.kernel"] += 1
    got["001.bias"] += 1
    assert not np.array_equal(models.get_weights(model)["000.kernel"], wanted["000.kernel"])
    assert not np.array_equal(models.get_weights(model)["001.bias"], got["001.bias"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("003.beta"), "weight '003.beta' of the model is missing"),
        (lambda w: w.update({"009.extra": np.ones(1)}), "weight '009.extra' is not one of the model's 9"),
        (lambda w: w.update({"001.bias": np.ones(4)}), r"weight '001.bias' has shape \(4,\); the model's is \(3,\)"),
    ],
)
def test_a_mismatch_is_named_and_changes_nothing(change, message):
    model = small()
    before, weights = models.get_weights(model), {n: w + 1 for n, w in models.get_weights(model).items()}
    change(weights)
    with pytest.raises(ValueError, match=message):
        models.set_weights(model, weights)
    assert all(np.array_equal(before[name], now) for name, now in models.get_weights(model).items())
