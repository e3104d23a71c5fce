"""Keras' own data sets by name; the files are given where Keras looks for downloads."""

import gzip
import struct

import numpy as np
import pytest

from fedkeras import data
from fedkeras.config import Config
from fedkeras.errors import UserError


@pytest.fixture
def fashion(tmp_path, monkeypatch):
    """A small Fashion-MNIST, as it is downloaded."""
    from keras.src.utils import file_utils

    folder = tmp_path / "datasets" / "fashion-mnist"
    folder.mkdir(parents=True)
    rng, arrays = np.random.default_rng(0), {}
    for side, count in (("train", 30), ("t10k", 10)):
        x, y = rng.integers(0, 256, (count, 28, 28), np.uint8), np.arange(count, dtype=np.uint8) % 10
        arrays[side] = x, y
        for name, array in (("images-idx3", x), ("labels-idx1", y)):
            head = struct.pack(f">i{array.ndim}i", 2048 + array.ndim, *array.shape)
            (folder / f"{side}-{name}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))
    monkeypatch.setattr(file_utils.config, "keras_home", lambda: str(tmp_path))
    return arrays


def test_a_set_of_keras_by_name(fashion):
    config = Config(dataset="keras:fashion_mnist", num_partitions=3, normaliser="none", test_fraction=0.0)
    source = data.open_source(config)
    assert (source.input_shape, len(source.classes)) == ((28, 28, 1), 10)
    parts = [data.load_client(config, cid).train for cid in range(3)]
    together = np.concatenate([part.x for part in parts])
    x, _ = fashion["train"]
    assert sorted(map(bytes, together.astype(np.uint8))) == sorted(map(bytes, x))
    assert len(data.load_test(config)) == 10


def test_an_unknown_set():
    with pytest.raises(UserError, match="of Keras' sets there are: mnist, fashion_mnist"):
        data.open_source(Config(dataset="keras:nothing"))
