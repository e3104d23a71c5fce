"""Your own data: an .npz file, or a function; the example in docs/data.md is run as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest
from original_formats import mnist_arrays

from fedkeras.commands.data import main
from fedkeras.config import Config
from fedkeras.data import ArraySource, Source, describe, load_client, load_test, open_source
from fedkeras.errors import UserError


def test_npz_of_images(tmp_path: Path) -> None:
    arrays = mnist_arrays()
    arrays["y_train"] = arrays["y_train"][:, None]  # Keras' CIFAR files have labels as a column
    np.savez_compressed(tmp_path / "my.npz", **arrays)
    for flags in ({"dataset": str(tmp_path / "my.npz")}, {"dataset": "my.npz", "data_dir": str(tmp_path)}):
        source = open_source(Config(**flags))
        assert source.input_shape == (28, 28, 1) and len(source.classes) == 10
        client = load_client(Config(**flags), 1)
        assert client.train.x.max() <= 1.0 and client.train.x.dtype == np.float32
        np.testing.assert_array_equal(source.test().x[..., 0], arrays["x_test"])


def test_npz_of_a_table_is_z_scored(tmp_path: Path) -> None:
    x = np.array([[1.0, 100.0], [3.0, 300.0]])
    np.savez(tmp_path / "t.npz", x_train=x, y_train=np.array([0, 1]), x_test=x, y_test=np.array([0, 1]))
    config = Config(dataset=str(tmp_path / "t.npz"), num_partitions=1, test_fraction=0.0)
    np.testing.assert_allclose(load_client(config, 0).train.x, [[-1, -1], [1, 1]])


@pytest.mark.parametrize("dtype", ["float64", "int64", "int32"])
def test_large_numbers_keep_their_digits_until_they_are_normalised(tmp_path: Path, dtype: str) -> None:
    """Seconds since 1970: in float32 128 neighbours are one."""
    times = (1_700_000_000 + np.arange(1000)).astype(dtype)[:, None]
    path = tmp_path / "t.npz"
    np.savez(path, x_train=times, y_train=np.arange(1000) % 2, x_test=times, y_test=np.arange(1000) % 2)
    config = Config(dataset=str(path), num_partitions=1, test_fraction=0.0)
    for x in (load_client(config, 0).train.x, load_test(config).x):
        assert x.dtype == np.float32 and len(np.unique(x)) == 1000
        np.testing.assert_allclose(np.sort(x[:, 0]), (np.arange(1000) - 499.5) / np.arange(1000).std(), rtol=1e-5)
    raw = load_test(Config(dataset=str(path), num_partitions=1, normaliser="none")).x
    assert raw.dtype == dtype and np.array_equal(raw, times)  # a model that looks numbers up takes them as they are


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16", "float32"])
def test_small_numbers_are_float32_from_the_start(dtype: str) -> None:
    source = ArraySource("m", (np.ones((4, 2), dtype), np.zeros(4, int)), (np.ones((1, 2), dtype), [0]), "a")
    assert source.examples(np.arange(2)).x.dtype == source.test().x.dtype == np.float32


def without(key: str) -> dict:
    return {name: value for name, value in mnist_arrays().items() if name != key}


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({}, "has no x_train, y_train, x_test, y_test; it holds: nothing"),
        (without("y_test"), "has no y_test; it holds: x_train"),
        (mnist_arrays() | {"x_train": np.zeros((0, 28, 28)), "y_train": np.zeros(0, int)}, "is empty"),
        (mnist_arrays() | {"x_train": np.array(5)}, "is empty"),
        (mnist_arrays() | {"y_train": np.arange(29)}, "30 training examples but 29 labels"),
        (mnist_arrays() | {"y_train": np.zeros(30)}, "y_train must be integer labels, not float64"),
        (mnist_arrays() | {"y_train": np.full(30, -1)}, "training labels run from -1 to -1"),
        (mnist_arrays() | {"y_test": np.full(10, 100_000)}, "has the label 100000; labels number the classes from 0"),
        (mnist_arrays() | {"x_train": np.array(["a"] * 30)[:, None]}, "x_train must be numbers"),
        (mnist_arrays() | {"x_train": np.array([None] * 30)}, "is damaged, or no .npz file of plain arrays"),
        (mnist_arrays() | {"x_test": np.zeros((10, 8, 8))}, "test examples of shape"),
        (mnist_arrays() | {"x_test": np.zeros((10, 14, 56))}, "examples of shape (14, 56) do not fit (28, 28, 1)"),
        (mnist_arrays() | {"y_train": np.full(30, 2**32), "y_test": np.zeros(10, int)}, "has the label 4294967296"),
    ],
)
def test_npz_that_does_not_fit(tmp_path: Path, arrays: dict, said: str) -> None:
    np.savez(tmp_path / "my.npz", **arrays)
    with pytest.raises(UserError, match=re.escape(said)):
        open_source(Config(dataset=str(tmp_path / "my.npz")))


def test_npz_missing_or_torn(tmp_path: Path) -> None:
    path = tmp_path / "my.npz"
    with pytest.raises(UserError, match=r"my.npz does not exist"):
        open_source(Config(dataset=str(path)))
    np.savez(path, **mnist_arrays())
    for content in (path.read_bytes()[:-100], b"", b"text"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is damaged"):
            open_source(Config(dataset=str(path)))


def test_one_array_by_the_name_of_several(tmp_path: Path) -> None:
    with (tmp_path / "my.npz").open("wb") as file:
        np.save(file, np.zeros((3, 2)))
    with pytest.raises(UserError, match=r"my.npz is damaged, or no .npz file .*a single array"):
        open_source(Config(dataset=str(tmp_path / "my.npz")))


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest):
    """Writes a module that can be imported in this test, and returns its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(text: str) -> str:
        name = "own_" + re.sub(r"\W", "_", request.node.name)
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write


def test_the_example_in_the_documentation(module, capsys: pytest.CaptureFixture) -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    name = module(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1])
    config = Config(dataset=f"{name}:load", partitioner="natural", num_partitions=5)
    counts = describe(config)
    assert counts.counts.sum() == len(counts.source.labels) == 142 and counts.central_test_size == 36
    train = np.concatenate([load_client(config, cid).train.x for cid in range(5)])
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(train.std(axis=0), 1, atol=1e-5)
    assert main([f"{name}:load", "--partitioner", "natural"]) == 0
    assert "UCI Wine" in capsys.readouterr().out


def test_a_subclass_needs_no_more_than_its_attributes_and_two_methods(module) -> None:
    name = module(
        "import numpy as np\n"
        "from data import Examples, Source\n"
        "class Mine(Source):\n"
        "    name, classes, input_shape, provenance = 'mine', ('even', 'odd'), (1,), 'counted'\n"
        "    labels = np.arange(50) % 2\n"
        "    def examples(self, indices):\n"
        "        return Examples(np.float32(indices)[:, None], np.int32(indices % 2))\n"
        "    def test(self):\n"
        "        return self.examples(np.arange(50, 60))\n"
        "def load(config): return Mine()\n"
    )
    config = Config(dataset=f"{name}:load", num_partitions=2)
    client = load_client(config, 1)
    np.testing.assert_array_equal(client.train.x[:, 0] % 2, client.train.y)
    assert isinstance(open_source(config), Source) and describe(config).central_test_size == 10


SOURCE = "import numpy as np\nfrom data import ArraySource, Source\ny = np.zeros(9, int)\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def load(config): return 3", "must return a data.Source, not int"),
        ("load = 3", "has no function 'load'"),
        ("import nothing_of_this_name", "cannot import .*nothing_of_this_name"),
        (SOURCE + "def load(config): return Source()", "does not set name, classes, input_shape, provenance, labels"),
        (SOURCE + "def load(config): return ArraySource('m', (y, y), (y, y), [])", "there are 0 classes"),
        (SOURCE + "def load(config): return ArraySource('m', (y[:0], y[:0]), (y, y), 'ab')", "not one training"),
        (SOURCE + "def load(config): return ArraySource('m', (y, y), (y, y), 'a', groups=y[1:])", "8 groups for 9"),
        (SOURCE + "def load(config): return ArraySource('m', (y, y / 2), (y, y), 'a')", "labels must be integers"),
    ],
)
def test_functions_that_do_not_fit(module, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        open_source(Config(dataset=f"{module(text)}:load"))


@pytest.mark.parametrize("dataset", ["nowhere_to_be_found:load", ":load", ".:load"])
def test_modules_that_are_not_there(dataset: str) -> None:
    with pytest.raises(UserError, match="--dataset"):
        open_source(Config(dataset=dataset))
