"""What the tests of server-led training share: tables in three formats, two model files, and real processes."""

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "runtime"))

import numpy as np
import pytest
from mixed_tables import write_tables
from processes import Starter, starting


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    """Starts processes in the test's folder; they are killed when the test ends."""
    with starting(tmp_path) as starter:
        yield starter


@pytest.fixture
def tables(tmp_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The tables lie in ./dataset of the test's folder."""
    return write_tables(tmp_path / "dataset")


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with classifier.keras and autoencoder.h5 (compiled), and lambda.keras."""
    import keras

    folder = tmp_path_factory.mktemp("models")
    classifier = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(2, "softmax")])
    classifier.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    classifier.save(folder / "classifier.keras")
    autoencoder = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "tanh"), keras.layers.Dense(4)])
    autoencoder.compile("adam", "mse")
    autoencoder.save(folder / "autoencoder.h5")
    code = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x * 2), keras.layers.Dense(2, "softmax")])
    code.compile("adam", "sparse_categorical_crossentropy")
    code.save(folder / "lambda.keras")
    return folder
