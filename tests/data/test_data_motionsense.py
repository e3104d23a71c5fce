"""MotionSense from its CSV files in a folder or a zip, cut into windows."""

from pathlib import Path

import numpy as np
import pytest
from original_formats import HEADER, recording, write_motionsense, zip_motionsense

from fedkeras.config import Config
from fedkeras.data import describe, load_client, load_test, open_source
from fedkeras.errors import UserError

# windows of 4 every 2: 10 rows make 4, 7 rows make 2 with one row over, 3 rows make none
SMALL = {
    "dws_1/sub_1.csv": recording(10, 100),
    "dws_1/sub_2.csv": recording(7, 200),
    "sit_5/sub_1.csv": recording(3, 300),
    "sit_5/sub_2.csv": recording(4, 400),
    "jog_16/sub_1.csv": recording(6, 500),
}


def config(folder: Path, **more: object) -> Config:
    return Config(**({"dataset": "motionsense", "data_dir": str(folder), "window": 4, "stride": 2} | more))


def assert_is_small(source) -> None:
    every = source.examples(np.arange(len(source.labels)))
    assert source.input_shape == (4, 12) and every.x.dtype == np.float32
    first_values = every.x[:, 0, 0].tolist()
    assert first_values == [100, 102, 104, 106, 200, 202, 400]
    np.testing.assert_allclose(every.x[1, :, 3], [102.03, 103.03, 104.03, 105.03], rtol=1e-6)  # gravity.x in order
    assert list(every.y) == [0, 0, 0, 0, 0, 0, 5] and list(source.groups) == [1, 1, 1, 1, 2, 2, 2]
    assert len(set(source.recordings[:4])) == 1 and len(set(source.recordings)) == 3
    assert source.test().x[:, 0, 0].tolist() == [500, 502] and list(source.test().y) == [3, 3]
    assert "4 of 30 samples are in no window" in source.notes[0]  # one of dws_1/sub_2, three of sit_5/sub_1


@pytest.mark.parametrize("inner", ["", "A_DeviceMotion_data", "A_DeviceMotion_data/A_DeviceMotion_data"])
def test_folders(tmp_path: Path, inner: str) -> None:
    write_motionsense(tmp_path / inner, SMALL)
    for _ in ("parsed", "from the cache"):
        assert_is_small(open_source(config(tmp_path)))


@pytest.mark.parametrize("prefix", ["A_DeviceMotion_data/", "A_DeviceMotion_data/A_DeviceMotion_data/"])
@pytest.mark.parametrize("by_name", [False, True])
def test_zip(tmp_path: Path, prefix: str, by_name: bool) -> None:
    path = zip_motionsense(tmp_path / "A_DeviceMotion_data.zip", SMALL, prefix)
    zip_motionsense(path, {"dws_1/sub_1.csv": "other sensors"}, "B_Accelerometer_data/B_Accelerometer_data/")
    zip_motionsense(path, {"dws_1/._sub_1.csv": "a Mac's"}, "__MACOSX/A_DeviceMotion_data/")
    assert_is_small(open_source(config(path if by_name else tmp_path)))


def test_stride_beyond_the_window_counts_the_gaps(tmp_path: Path) -> None:
    source = open_source(config(write_motionsense(tmp_path, SMALL), window=2, stride=5))
    # 10 rows: windows at 0, 5; 7 rows: 0, 5; 3, 4 and 6 rows: 0 each
    assert source.examples(np.arange(6)).x[:, 0, 0].tolist() == [100, 105, 200, 205, 300, 400]
    assert "16 of 30 samples are in no window" in source.notes[0]


def test_chosen_signals_in_the_order_asked_for(tmp_path: Path) -> None:
    write_motionsense(tmp_path, SMALL)
    source = open_source(config(tmp_path, signals="userAcceleration.z, attitude.roll"))
    assert source.input_shape == (4, 2)
    np.testing.assert_allclose(source.examples(np.array([0])).x[0, 0], [100.11, 100.0], rtol=1e-6)


def test_the_short_trials_are_11_to_16(tmp_path: Path) -> None:
    trials = {9: "wlk_9", 11: "dws_11", 12: "ups_12", 16: "jog_16"}
    write_motionsense(tmp_path, {f"{name}/sub_1.csv": recording(4, trial) for trial, name in trials.items()})
    source = open_source(config(tmp_path))
    assert source.examples(np.array([0])).x[:, 0, 0].tolist() == [9] and len(source.labels) == 1
    assert sorted(source.test().x[:, 0, 0].tolist()) == [11, 12, 16]


def test_subjects_held_out(tmp_path: Path) -> None:
    write_motionsense(tmp_path, SMALL)
    source = open_source(config(tmp_path, test_split="subject", test_subjects="2"))
    assert set(source.groups) == {1} and source.test().x[:, 0, 0].tolist() == [200, 202, 400]
    assert len(source.labels) == 6  # the short trial of subject 1 trains


def test_standardised_with_training_statistics_only(tmp_path: Path) -> None:
    write_motionsense(tmp_path, SMALL)
    one = config(tmp_path, num_partitions=1, test_fraction=0.0)
    raw = open_source(one)
    train = raw.examples(np.arange(7)).x.astype(np.float64)
    mean, std = train.mean(axis=(0, 1)), train.std(axis=(0, 1))
    client = load_client(one, 0)
    np.testing.assert_allclose(client.train.x, (train - mean) / std, rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(load_test(one).x, (raw.test().x - mean) / std, rtol=1e-4)


@pytest.mark.parametrize("partitioner", ["iid", "natural", "sizes", "dirichlet", "shards"])
def test_no_recording_is_torn(tmp_path: Path, partitioner: str) -> None:
    """Not between two clients, and not between a client's training and test part: windows overlap."""
    names = [f"{kind}/sub_{subject}.csv" for kind in ("dws_1", "wlk_7", "sit_5") for subject in range(1, 9)]
    recordings = {name: recording(20, 100.0 * i) for i, name in enumerate(names)}
    write_motionsense(tmp_path, recordings | {"jog_16/sub_1.csv": recording(6)})
    two = {"partitioner": partitioner, "num_partitions": 2, "sizes": "1,2", "alpha": 2.0}
    chosen = config(tmp_path, normaliser="none", test_fraction=0.3, **two)
    seen: list[set[int]] = []
    for cid in range(2):
        client = load_client(chosen, cid)
        assert len(client.test) > 0
        # a recording's values lie within one hundred
        seen += [{int(value) // 100 for value in part.x[:, 0, 0]} for part in (client.train, client.test)]
    assert sum(map(len, seen)) == len(set.union(*seen)) <= 24


def bad_column(files: dict) -> None:
    files["dws_1/sub_2.csv"] = files["dws_1/sub_2.csv"].replace("gravity.y", "gravity_y")


def bad_number(files: dict) -> None:
    files["dws_1/sub_2.csv"] = files["dws_1/sub_2.csv"].replace("201.03", "nought")


def bad_nan(files: dict) -> None:
    files["dws_1/sub_2.csv"] = files["dws_1/sub_2.csv"].replace("201.03", "")


def ragged_row(files: dict) -> None:
    files["dws_1/sub_2.csv"] += ",".join("1" * 20) + "\n"


def empty_file(files: dict) -> None:
    files["dws_1/sub_2.csv"] = ""


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (bad_column, "dws_1/sub_2.csv has no column gravity.y"),
        (bad_number, "dws_1/sub_2.csv is not a recording"),
        (bad_nan, "dws_1/sub_2.csv holds values that are missing"),
        (ragged_row, "dws_1/sub_2.csv is not a recording"),
        (empty_file, "dws_1/sub_2.csv is not a recording"),
    ],
)
def test_damaged_recordings(tmp_path: Path, damage, said: str) -> None:
    files = dict(SMALL)
    damage(files)
    with pytest.raises(UserError, match=said):
        open_source(config(write_motionsense(tmp_path / "folder", files)))
    with pytest.raises(UserError, match=said):
        open_source(config(zip_motionsense(tmp_path / "A_DeviceMotion_data.zip", files)))


def test_a_byte_order_mark_is_no_column(tmp_path: Path) -> None:
    files = {name: text.replace(HEADER, "\ufeff" + HEADER) for name, text in SMALL.items()}
    assert_is_small(open_source(config(write_motionsense(tmp_path, files))))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"signals": "gravity.w"}, "--signals: there is no 'gravity.w'; choose from attitude.roll"),
        ({"signals": "gravity.x,gravity.x"}, "names one twice"),
        ({"test_split": "subject", "test_subjects": "2,25"}, "no subject 25; known are 1, 2"),
        ({"test_split": "subject", "test_subjects": "two"}, "--test-subjects is 'two'; give numbers"),
        ({"test_split": "subject", "test_subjects": "1,2"}, "leave some to train"),
        ({"test_split": "subject", "test_subjects": ""}, "name some"),
        ({"window": 11}, "--window 11 does not fit .* whole set"),
        ({"window": 7}, "--window 7 does not fit .* test set"),
    ],
)
def test_flags_that_do_not_fit(tmp_path: Path, flags: dict, said: str) -> None:
    write_motionsense(tmp_path, SMALL)
    with pytest.raises(UserError, match=said):
        open_source(config(tmp_path, **flags))


def test_places_without_recordings(tmp_path: Path) -> None:
    for place, said in ((tmp_path / "nowhere", "does not exist"), (tmp_path, "holds no recordings")):
        with pytest.raises(UserError, match=f"{said}.*A_DeviceMotion_data.zip"):
            open_source(config(place))
    with pytest.raises(UserError, match="needs --data-dir"):
        open_source(Config(dataset="motionsense"))
    path = zip_motionsense(tmp_path / "A_DeviceMotion_data.zip", {"readme.txt": "nothing"})
    with pytest.raises(UserError, match="holds no recordings"):
        open_source(config(path))


def test_truncated_and_damaged_zips(tmp_path: Path) -> None:
    path = zip_motionsense(tmp_path / "A_DeviceMotion_data.zip", SMALL)
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(UserError, match="truncated or not a zip file"):
        open_source(config(path))
    path.write_bytes(whole[:120] + b"\0\0\0\0" + whole[124:])
    with pytest.raises(UserError, match="is damaged at"):
        open_source(config(path))


@pytest.mark.parametrize("split", ["trial", "subject"])
def test_real_files(real_data: Path, split: str) -> None:
    real = config(real_data / "motionsense", window=128, stride=64, test_split=split, partitioner="natural")
    everything = describe(real)
    source = everything.source
    assert source.input_shape == (128, 12) and everything.partition.left_out == 0
    assert "360 recordings" in source.notes[0] and "of 1412865 samples" in source.notes[0]
    expected = {"trial": (24, 16579, 4960), "subject": (18, 16086, 5453)}[split]
    assert (len(np.unique(source.groups)), len(source.labels), everything.central_test_size) == expected
    client = load_client(real, 0)
    assert abs(float(client.train.x.mean())) < 0.2 and 0.7 < float(client.train.x.std()) < 1.3
