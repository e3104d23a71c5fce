"""mixed_bfloat16 reaches every layer, of loaded models too; weights stay float32."""

import keras
import numpy as np
import pytest
from keras import layers

from fedkeras import models
from fedkeras.models import precision
from fedkeras.models.zoo import BUILT_IN

SHAPES = {"digits_cnn": (8, 8, 1), "motionsense_cnn": (32, 3), "motionsense_dense": (32, 3)}


def leaves(layer):
    inner = getattr(layer, "layers", None) or ([layer.layer] if hasattr(layer, "layer") else [])
    return [leaf for part in inner for leaf in leaves(part)] or [layer]


def nested():
    inner = keras.Sequential([keras.Input((6, 4)), layers.Conv1D(3, 2), layers.BatchNormalization()])
    inputs = keras.Input((6, 4))
    hidden = layers.TimeDistributed(layers.Dense(2, kernel_regularizer="l2"))(inner(inputs))
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(layers.Flatten()(hidden)))


def check(model, compute="bfloat16"):
    *hidden, output = [leaf for leaf in leaves(model) if not isinstance(leaf, layers.InputLayer)]
    assert {leaf.compute_dtype for leaf in hidden} == {compute}
    assert output.compute_dtype == "float32"
    assert {str(array.dtype) for array in models.get_weights(model).values()} == {"float32"}


@pytest.mark.parametrize("name", sorted(set(BUILT_IN) - {"leaf_cnn"}))
def test_built_in_models_compute_in_bfloat16_from_the_same_weights(name):
    shape = SHAPES.get(name, (28, 28, 1))
    full = models.build(name, input_shape=shape, num_classes=5, seed=3)
    mixed = models.build(name, input_shape=shape, num_classes=5, seed=3, precision="mixed_bfloat16")
    check(mixed)
    for array, other in zip(full.get_weights(), mixed.get_weights(), strict=True):
        np.testing.assert_array_equal(array, other)
    x = np.random.default_rng(0).random((2, *shape), "float32")
    np.testing.assert_allclose(full(x), mixed(x), atol=0.05)
    assert mixed.compiled == full.compiled


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_loaded_model_is_rewritten_both_ways(tmp_path, suffix):
    model = nested()
    model.layers[1].layers[0].trainable = False
    model.compile(loss="mse")
    models.save(model, tmp_path / f"m{suffix}")
    mixed = models.build(str(tmp_path / f"m{suffix}"), input_shape=(6, 4), num_classes=3, precision="mixed_bfloat16")
    check(mixed)
    assert mixed.compiled
    assert len(mixed.trainable_variables) == len(model.trainable_variables) == 6
    for array, other in zip(model.get_weights(), mixed.get_weights(), strict=True):
        np.testing.assert_array_equal(array, other)
    models.save(mixed, tmp_path / "mixed.keras")
    check(models.build(str(tmp_path / "mixed.keras"), input_shape=(6, 4), num_classes=3), compute="float32")


def test_float32_keeps_the_very_model():
    model = nested()
    assert precision.with_precision(model, "float32") is model


def test_a_processor_without_bfloat16_is_warned_about(monkeypatch, caplog):
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: False)
    precision.with_precision(nested(), "float32")
    assert not caplog.records
    precision.with_precision(nested(), "mixed_bfloat16")
    assert "no bfloat16 instructions" in caplog.text
