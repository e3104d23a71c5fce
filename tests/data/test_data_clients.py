"""What a process loads: its own client's part, the central test set, the counts."""

import subprocess
import sys

import numpy as np
import pytest

from fedkeras import stratified
from fedkeras.config import Config
from fedkeras.data import ArraySource, describe, load_client, load_test, open_source, scaling
from fedkeras.data.hold_out import hold_out
from fedkeras.errors import UserError


def test_digits_has_360_stratified_test_images_whatever_the_seed() -> None:
    source = open_source(Config())
    assert (len(source.labels), source.input_shape) == (1437, (8, 8, 1))
    counts = np.bincount(source.test().y)
    assert counts.sum() == 360 and counts.min() >= 34 and counts.max() <= 38
    np.testing.assert_array_equal(source.test().x, open_source(Config(seed=7)).test().x)


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    source, original = open_source(Config()), load_digits()
    ours = np.concatenate([source.examples(np.arange(1437)).x, source.test().x]).reshape(-1, 64)
    labels = np.concatenate([source.labels, source.test().y])[:, None]
    both = np.hstack([ours, labels]), np.hstack([original.data, original.target[:, None]])
    np.testing.assert_array_equal(*(np.unique(table, axis=0, return_counts=True)[0] for table in both))


@pytest.mark.parametrize("partitioner", ["iid", "dirichlet", "shards"])
def test_clients_hold_their_own_parts(partitioner: str) -> None:
    config = Config(partitioner=partitioner, num_partitions=4, normaliser="none")
    source, counts = open_source(config), describe(config)
    seen = 0
    for cid in range(4):
        client = load_client(config, cid)
        part = counts.partition.parts[cid]
        assert (len(client.train), len(client.test)) == (counts.train_sizes[cid], counts.test_sizes[cid])
        both = np.concatenate([client.train.x, client.test.x]).reshape(-1, 64)
        mine = source.examples(part).x.reshape(-1, 64)
        np.testing.assert_array_equal(both[np.lexsort(both.T)], mine[np.lexsort(mine.T)])
        labels = np.concatenate([client.train.y, client.test.y])
        np.testing.assert_array_equal(np.bincount(labels, minlength=10), counts.counts[cid])
        seen += len(labels)
    assert seen + counts.partition.left_out == 1437 and counts.central_test_size == 360


@pytest.mark.parametrize(("partitioner", "lines"), [("shards", 1), ("iid", 0)])
def test_a_client_is_told_once_what_nobody_holds(
    partitioner: str, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    config = Config(partitioner=partitioner, seed=1)
    left_out = describe(config).partition.left_out
    assert bool(left_out) == bool(lines) and not caplog.messages
    for cid in range(3):
        load_client(config, cid)
    assert caplog.messages == [f"--partitioner shards leaves out {left_out} of 1437 training examples"][:lines]


def test_digits_are_scaled_by_16() -> None:
    raw = open_source(Config()).test().x
    np.testing.assert_array_equal(load_test(Config()).x, raw / 16)
    np.testing.assert_array_equal(load_test(Config(normaliser="minmax")).x, raw / 16)
    np.testing.assert_array_equal(load_test(Config(normaliser="none")).x, raw)


def test_zscore_takes_all_clients_training_parts_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(normaliser="zscore", partitioner="shards", test_fraction=0.5)
    monkeypatch.setattr(scaling, "CHUNK", 100)
    raw = [load_client(Config(normaliser="none", partitioner="shards", test_fraction=0.5), cid) for cid in range(3)]
    train = np.concatenate([client.train.x for client in raw]).astype(np.float64)
    for cid in range(3):
        expected = (raw[cid].test.x - train.mean()) / train.std()
        np.testing.assert_allclose(load_client(config, cid).test.x, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cid", [-1, 3])
def test_a_cid_out_of_range(cid: int) -> None:
    with pytest.raises(UserError, match=f"--cid is {cid}; with --num-partitions 3 it must be 0 to 2"):
        load_client(Config(), cid)


def made_up(labels, recordings=None) -> ArraySource:
    y = np.asarray(labels)
    return ArraySource("made up", (y[:, None], y), (y[:, None], y), "abc", recordings=recordings)


@pytest.mark.parametrize(
    ("size", "fraction", "expected"), [(20, 0.1, 2), (20, 0.0, 0), (2, 0.1, 1), (1, 0.9, 0), (4, 0.9, 3)]
)
def test_held_out_share(size: int, fraction: float, expected: int) -> None:
    train, test = hold_out(made_up([0] * size), np.arange(size), Config(test_fraction=fraction), 0)
    assert len(test) == expected and sorted([*train, *test]) == list(range(size))


def test_held_out_depends_on_seed_and_client() -> None:
    source = made_up([0] * 100)
    tests = {tuple(hold_out(source, np.arange(100), Config(seed=s), cid)[1]) for s in range(3) for cid in range(3)}
    assert len(tests) == 9
    assert tuple(hold_out(source, np.arange(100), Config(seed=0), 1)[1]) in tests


def test_held_out_is_stratified() -> None:
    labels = np.array([0] * 60 + [1] * 30 + [2] * 10)
    chosen = stratified.sample(100, 10, np.random.default_rng(0), labels)
    assert np.bincount(labels[chosen]).tolist() == [6, 3, 1]


def test_held_out_recordings_are_whole_and_of_several_labels() -> None:
    recordings = np.repeat(np.arange(30), 10)
    source = made_up(recordings // 10, recordings)
    train, test = hold_out(source, np.arange(300), Config(test_fraction=0.1), 0)
    assert len(test) == 30 and set(recordings[test]).isdisjoint(recordings[train])
    assert set(source.labels[test]) == {0, 1, 2}


def test_a_single_recording_trains() -> None:
    train, test = hold_out(made_up([0] * 5, np.zeros(5)), np.arange(5), Config(test_fraction=0.5), 0)
    assert len(train) == 5 and len(test) == 0


def test_starting_on_digits_loads_nothing_heavy() -> None:
    code = (
        "import sys; from data import load_client, load_test; from fedkeras.config import Config;"
        "load_client(Config(), 0); load_test(Config());"
        "heavy = 'pandas', 'sklearn', 'flwr_datasets', 'datasets', 'matplotlib', 'pooch', 'tensorflow';"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
