"""What is handed out arrives bit for bit; a damaged or foreign slice is refused; nothing half stays."""

import dataclasses
import json

import numpy as np
import pytest
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from fedkeras.config import Config
from fedkeras.data.normalise import normaliser_from
from fedkeras.data.statistics import merge, statistics_of
from fedkeras.errors import UserError
from fedkeras.models.file_info import input_shape
from fedkeras.provisioning import download_cache, protocol
from fedkeras.provisioning.client_data import ProvisionedClient
from fedkeras.provisioning.preprocessing import Preprocessing
from fedkeras.provisioning.shards import Digest, Shard

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5000, 3))
Y = RNG.integers(0, 4, 5000)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Nothing goes into the user's cache."""
    monkeypatch.setenv("FEDKERAS_CACHE", str(tmp_path / "cache"))
    download_cache.require_space(0, 10**9)


def received(shard: Shard, compressed: bool = False) -> dict:
    receiver = download_cache.RowsReceiver(shard.digest, shard.layout, shard.num_bytes)
    for first, rows in shard.slices():
        if compressed:
            rows = {
                name: protocol.decompress(protocol.compress(rows)[name], array.dtype, array.shape)
                for name, array in rows.items()
            }
        receiver.add(first, rows)
    return download_cache.open_rows(shard.digest)


@pytest.mark.parametrize("compressed", [False, True])
def test_what_arrives_is_what_was_sent(compressed, monkeypatch):
    monkeypatch.setattr("fedkeras.provisioning.shards.FIRST_BYTES", 1000)
    monkeypatch.setattr("fedkeras.provisioning.shards.SLICE_BYTES", 3000)
    rows = np.sort(RNG.permutation(5000)[:1234])
    tables = received(Shard(X, Y, rows), compressed)
    assert tables["x"].tobytes() == X[rows].tobytes()
    assert tables["y"].tobytes() == Y[rows].tobytes()
    assert isinstance(tables["x"], np.memmap)


def test_words_travel_too():
    words = np.array(["a", "longer"] * 5)
    assert received(Shard(X[:10], words, np.arange(10)))["y"].tolist() == words.tolist()


def test_the_digest_is_of_the_content_alone(monkeypatch):
    one = Shard(X, Y, np.arange(100)).digest
    monkeypatch.setattr("fedkeras.provisioning.shards.FIRST_BYTES", 64)
    assert Shard(X.copy(), Y.copy(), np.arange(100)).digest == one
    assert Shard(X, Y, np.arange(1, 101)).digest != one
    assert Shard(X, None, np.arange(100)).digest != one


def test_altered_rows_are_refused_and_leave_nothing():
    shard = Shard(X, Y, np.arange(100))
    receiver = download_cache.RowsReceiver(shard.digest, shard.layout, shard.num_bytes)
    ((_, rows),) = shard.slices()
    rows["x"] = rows["x"] + 1
    with pytest.raises(ValueError, match="digest"):
        receiver.add(0, rows)
    assert not [path for path in download_cache.folder().iterdir() if "rows" in path.name]


@pytest.mark.parametrize(
    "change", [{"first": 5}, {"dtype": "float32"}, {"width": 2}, {"name": "z"}], ids=["gap", "dtype", "width", "name"]
)
def test_a_slice_that_does_not_fit_is_refused(change):
    shard = Shard(X, Y, np.arange(100))
    receiver = download_cache.RowsReceiver(shard.digest, shard.layout, shard.num_bytes)
    ((_, rows),) = shard.slices()
    x = rows["x"].astype(change.get("dtype", "float64"))[:, : change.get("width", 3)]
    with pytest.raises(ValueError):
        receiver.add(change.get("first", 0), {change.get("name", "x"): x, "y": rows["y"]})


def test_a_compressed_bomb_is_not_uncompressed():
    bomb = protocol.compress({"x": np.zeros(1 << 24, np.uint8)})["x"]
    with pytest.raises(ValueError, match="other than their 10 bytes"):
        protocol.decompress(bomb, np.dtype(np.uint8), (10,))


def test_a_hand_out_takes_no_more_than_the_client_gives():
    (download_cache.folder() / ".model-part").write_bytes(bytes(1000))  # not whole, and it takes room all the same
    download_cache.require_space(500, 1500)
    with pytest.raises(UserError, match=r"may take 0 MB here \(--max-download-mb\), of which 0\.0 are taken"):
        download_cache.require_space(501, 1500)


@pytest.mark.parametrize(
    ("layout", "stated"),
    [
        ({"x": ["<f4", [10, 3]]}, 119),  # 120 bytes
        ({"x": ["<f4", [10**12, 3]]}, 120),
        ({"x": ["<U1000000000", [10, 3]]}, 120),
        ({"x": ["<f4", [10, 3]], "../y": ["<f4", [10, 3]]}, 240),
        ({"x": ["O", [10, 3]]}, 240),
        ({"x": ["<f4", [10, -3]]}, -120),
        ({"x": ["<f4", [10, 3], " " * 10_000]}, 120),
    ],
)
def test_the_room_that_was_asked_for_is_what_is_written(layout, stated):
    with pytest.raises(ValueError):
        download_cache.RowsReceiver("0" * 64, json.dumps(layout), stated)
    with pytest.raises(ValueError):
        download_cache.ModelReceiver("0" * 64, ".keras", 0)


@pytest.mark.parametrize(("first", "count"), [(0, 5001), (1, 4999), (0, 0), (0, -1), (0, 10**18)])
def test_a_slice_is_counted_before_it_is_uncompressed(first, count):
    shard = Shard(X, Y, np.arange(5000))
    receiver = download_cache.RowsReceiver(shard.digest, shard.layout, shard.num_bytes)
    receiver.check_slice(0, 5000)
    with pytest.raises(ValueError, match="rows do not follow row 0"):
        receiver.check_slice(first, count)


def test_a_slice_of_many_megabytes_is_none():
    wide = Shard(np.zeros((100, 1000, 1000), np.uint8), None, np.arange(100))
    receiver = download_cache.RowsReceiver("0" * 64, wide.layout, wide.num_bytes)
    receiver.check_slice(0, 33)
    with pytest.raises(ValueError, match="34 rows"):
        receiver.check_slice(0, 34)


def test_compression_is_used_where_the_line_is_slow_and_the_data_repeat():
    same, noise = {"x": np.zeros((1000, 100))}, {"x": RNG.integers(0, 256, 800_000).astype(np.uint8)}
    assert protocol.compression_pays(same, sent_in=10.0)
    assert not protocol.compression_pays(same, sent_in=1e-5)
    assert not protocol.compression_pays(noise, sent_in=10.0)


def test_a_full_disk_is_one_line(monkeypatch):
    with pytest.raises(UserError, match=r"cannot be kept in .*FEDKERAS_CACHE"):
        download_cache.require_space(10**18, 10**19)
    monkeypatch.setenv("FEDKERAS_CACHE", "/proc/nowhere")
    with pytest.raises(UserError, match="cannot be kept in /proc/nowhere"):
        download_cache.require_space(10, 10**9)


@pytest.mark.parametrize(
    ("takes", "row", "given"),
    [
        ((28, 28, 1), (784,), (28, 28, 1)),
        ((784,), (28, 28), (784,)),
        ((None, 6), (128, 6), (128, 6)),
        (None, (3, 3), (3, 3)),
    ],
)
def test_shapes_that_fit(takes, row, given):
    assert input_shape(takes, row) == given


def test_shapes_that_do_not():
    with pytest.raises(UserError, match="takes 8 numbers an example, and the data have 4"):
        input_shape((8,), (4,))


@pytest.mark.parametrize(("name", "scaler"), [("zscore", StandardScaler()), ("minmax", MinMaxScaler())])
def test_federated_normalisation_is_sklearns_of_the_pooled_rows(name, scaler, tmp_path):
    """At a mean of 1e6 and a spread of 0.01, and with a constant column, where sums of squares have no digit left."""
    x = RNG.normal([5, -3, 1e6], [1, 2, 0.01], (900, 3))
    x = np.column_stack([x, np.full(900, 2.0)])
    parts = np.array_split(RNG.permutation(900), 3)
    total = statistics_of(x[parts[0]])
    for part in parts[1:]:
        total = merge(total, statistics_of(x[part]))
    Preprocessing(normaliser_from(total, name), None).save(tmp_path)
    ours = Preprocessing.load(tmp_path).normaliser.apply(x)
    assert np.abs(ours - scaler.fit_transform(x)).max() < 1e-6


@pytest.mark.parametrize("name", ["none", "scale", "minmax", "zscore"])
@pytest.mark.parametrize("per_feature", [True, False])
def test_every_normaliser_is_the_same_after_it_was_sent(name, per_feature):
    sent = Preprocessing(normaliser_from(statistics_of(X, per_feature), name), None)
    got = Preprocessing.from_parts(sent.text(), sent.arrays())
    assert got.digest == sent.digest and np.array_equal(got.normaliser.apply(X), sent.normaliser.apply(X))


def test_a_client_holds_out_what_it_says(tmp_path):
    client = ProvisionedClient(1, tmp_path / "none.keras", ("", ""), {"x": X, "y": Y})
    config = Config(data_source="client", test_fraction=0.2, loss="sparse_categorical_crossentropy")
    train, test = client.train_and_test_rows(config)
    assert len(test) == 1000
    assert sorted([*train, *test]) == list(range(5000))
    own = dataclasses.replace(config, mode="some.module:Workflow")  # of the user's: it may evaluate
    assert np.array_equal(client.train_and_test_rows(own)[1], test)
    everything, nothing = client.train_and_test_rows(dataclasses.replace(config, mode="collect"))
    assert (len(everything), len(nothing)) == (5000, 0)


def test_slices_of_any_size_have_one_digest():
    layout = Shard(X, None, np.arange(10)).layout
    one, many = Digest(layout), Digest(layout)
    one.update({"x": np.ascontiguousarray(X[:10])})
    for i in range(10):
        many.update({"x": np.ascontiguousarray(X[i : i + 1])})
    assert one.result() == many.result()
