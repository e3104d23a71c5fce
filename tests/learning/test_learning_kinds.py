"""Kinds of models that people bring, from a file: each is trained as `fit` trains it, to the bit."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import constraints, layers
from test_learning_against_fit import fit_in_the_same_order

from fedkeras import models
from fedkeras.learning import Learner
from fedkeras.models.precision import with_precision

ROWS = 20
RNG = np.random.default_rng(0)
X = RNG.normal(size=(ROWS, 6)).astype("float32")
TOKENS = RNG.integers(0, 10, (ROWS, 5))
IMAGES = RNG.integers(0, 256, (ROWS, 6, 6, 3)).astype("uint8")
Y = RNG.integers(0, 3, ROWS)


def softmax() -> layers.Layer:
    return layers.Dense(3, activation="softmax")


def looked_up() -> keras.Model:
    lookup = layers.IntegerLookup(vocabulary=list(range(7)))
    return keras.Sequential(
        [keras.Input((5,), dtype="int64"), lookup, layers.Embedding(9, 3), layers.Flatten(), softmax()]
    )


def hashed() -> keras.Model:
    return keras.Sequential(
        [keras.Input((5,), dtype="int64"), layers.Hashing(6), layers.Embedding(6, 2), layers.Flatten(), softmax()]
    )


def one_named_output() -> keras.Model:
    inputs = keras.Input((6,), name="x")
    return keras.Model({"x": inputs}, {"kind": softmax()(layers.Dropout(0.3)(layers.Dense(4, "relu")(inputs)))})


def frozen() -> keras.Model:
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4), layers.BatchNormalization(), softmax()])
    model.trainable = False
    return model


def images() -> keras.Model:
    spectral = layers.SpectralNormalization(layers.Conv2D(3, 3))
    last = layers.Dense(3, activation="softmax", kernel_constraint=constraints.MaxNorm(0.5))
    return keras.Sequential(
        [keras.Input((6, 6, 3), dtype="uint8"), layers.Rescaling(1 / 255), spectral, layers.Flatten(), last]
    )


@pytest.mark.parametrize(
    ("make", "x"), [(looked_up, TOKENS), (hashed, TOKENS), (one_named_output, X), (frozen, X), (images, IMAGES)]
)
def test_it_is_trained_as_fit_trains_it(tmp_path: Path, make: Callable[[], keras.Model], x: np.ndarray) -> None:
    keras.utils.set_random_seed(1)
    path = tmp_path / "m.keras"
    make().save(path)
    learner = Learner(with_precision(models.load(path), "float32"), learning_rate=0.05)
    outcome = learner.train(x, Y, epochs=2, batch_size=8, rng=np.random.default_rng(9))
    own = keras.saving.load_model(path)
    loss = "sparse_categorical_crossentropy"
    own.compile(keras.optimizers.SGD(0.05), loss, metrics=["accuracy"], jit_compile=False)
    logs = fit_in_the_same_order(own, x, Y, 2, 8, np.random.default_rng(9))
    for name, array in models.get_weights(own).items():
        np.testing.assert_array_equal(learner.get_weights()[name], array, err_msg=name)
    assert outcome.loss == pytest.approx(logs["loss"], rel=1e-5)
    assert learner.evaluate(x, Y).accuracy == pytest.approx(own.evaluate(x, Y, verbose=0)[1])


def test_words_are_looked_up_and_numbers_for_them_are_refused() -> None:
    words = np.array(["red", "green", "blue"])[RNG.integers(0, 3, (ROWS, 2))]
    lookup = layers.StringLookup(vocabulary=["red", "green", "blue"])
    parts = [keras.Input((2,), dtype="string"), lookup, layers.Embedding(4, 3), layers.Flatten(), softmax()]
    learner = Learner(with_precision(keras.Sequential(parts), "float32"))
    assert np.isfinite(learner.train(words, Y, epochs=1, batch_size=8, rng=np.random.default_rng(0)).loss)
    with pytest.raises(ValueError, match="the model takes text, and the examples are numbers"):
        learner.place(X[:, :2], Y)


def test_a_lookup_beside_bfloat16_goes_on_looking_up() -> None:
    mixed = with_precision(looked_up(), "mixed_bfloat16")
    assert [layer.compute_dtype for layer in mixed.layers] == ["int64", "bfloat16", "bfloat16", "float32"]


def test_another_precision_than_the_files_is_said(caplog: pytest.LogCaptureFixture) -> None:
    half = keras.Sequential([keras.Input((6,)), layers.Dense(4, dtype="mixed_float16"), softmax()])
    assert with_precision(half, "float32").layers[0].compute_dtype == "float32"
    assert "layers that compute in float16 in the model compute in float32 here" in caplog.text
