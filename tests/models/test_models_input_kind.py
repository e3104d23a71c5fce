"""What a model does first with its input, of the model and of its file, in both formats."""

import keras
import numpy as np
import pytest
from keras import layers

from fedkeras.models.input_kind import kind_of_file, kind_of_model

ROWS = np.random.default_rng(0).uniform(0, 9, (50, 4))
IMAGE = (8, 8, 1)


def sequential(*stack: keras.Layer, shape: tuple[int, ...] = (4,), dtype: str | None = None) -> keras.Model:
    return keras.Sequential([keras.Input(shape, dtype=dtype), *stack, layers.Flatten(), layers.Dense(2)])


def graph(first, shape: tuple[int, ...] = IMAGE) -> keras.Model:
    given = keras.Input(shape)
    return keras.Model(given, layers.Dense(2)(layers.Flatten()(first(given))))


def adapted(**own: object) -> keras.Layer:
    layer = layers.Normalization(**own)
    layer.adapt(ROWS)
    return layer


def augmented() -> keras.Model:
    return keras.Sequential([layers.RandomFlip(), layers.Rescaling(1 / 255)])


class Words(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.look_up, self.flat, self.out = layers.Embedding(9, 2), layers.Flatten(), layers.Dense(2)

    def call(self, x):
        return self.out(self.flat(self.look_up(x)))


CASES = {
    "dense": (lambda: sequential(layers.Dense(2)), "numbers", ""),
    "embedding": (lambda: sequential(layers.Embedding(9, 2, name="words")), "integers", "Embedding 'words'"),
    "embedding in a graph": (lambda: graph(layers.Embedding(9, 2), (4,)), "integers", "Embedding"),
    "cast": (lambda: graph(lambda x: layers.Embedding(9, 2)(keras.ops.cast(x, "int32")), (4,)), "integers", ""),
    "integer input": (lambda: sequential(dtype="int32"), "integers", "input '"),
    "hashing": (lambda: sequential(layers.Hashing(5, output_mode="one_hot"), dtype="int64"), "integers", ""),
    "rescaling": (lambda: sequential(layers.Rescaling(1 / 255), shape=IMAGE), "scaled", "Rescaling"),
    "of scaled values": (lambda: sequential(layers.Rescaling(2.0, offset=-1), shape=IMAGE), "numbers", ""),
    "nested": (lambda: sequential(augmented(), shape=IMAGE), "scaled", "Rescaling"),
    "nested in a graph": (lambda: graph(augmented()), "scaled", "Rescaling"),
    "behind a model that augments": (
        lambda: sequential(keras.Sequential([layers.RandomFlip()]), layers.Rescaling(1 / 255), shape=IMAGE),
        "scaled",
        "Rescaling",
    ),
    "division": (lambda: graph(lambda x: (x - 127.5) / 127.5), "scaled", "TrueDivide"),
    "multiplication": (lambda: graph(lambda x: x * (1 / 255)), "scaled", "Multiply"),
    "adapted": (lambda: sequential(layers.Reshape((4,)), adapted()), "scaled", "Normalization"),
    "mean and variance": (lambda: sequential(layers.Normalization(mean=3.0, variance=2.0)), "scaled", ""),
    "never adapted": (lambda: sequential(layers.Normalization()), "numbers", ""),
    "batch normalisation": (lambda: sequential(layers.BatchNormalization()), "numbers", ""),
    "later": (lambda: sequential(layers.Dense(3), layers.Rescaling(1 / 255)), "numbers", ""),
    "bins": (lambda: sequential(layers.Discretization(bin_boundaries=[1.0, 2.0])), "scaled", "Discretization"),
    "masking": (lambda: sequential(layers.Masking(), layers.LSTM(2), shape=(5, 2)), "masked", "Masking"),
}


@pytest.mark.parametrize("case", CASES)
def test_of_a_model_and_of_its_files(case: str, tmp_path) -> None:
    make, kind, layer = CASES[case]
    model = make()
    found = kind_of_model(model)
    assert found.kind == kind and found.layer.startswith(layer)
    for suffix in (".keras", ".h5") if case in ("adapted", "never adapted", "nested", "division") else (".keras",):
        model.save(tmp_path / f"model{suffix}")
        assert kind_of_file(tmp_path / f"model{suffix}") == found


def test_of_a_subclassed_model() -> None:
    model = Words()
    model(np.zeros((1, 4)))
    assert kind_of_model(model).kind == "integers"
