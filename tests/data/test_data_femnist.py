"""FEMNIST from LEAF's JSON, merged over files, and from the table that Flower Datasets delivers."""

import json
from pathlib import Path

import numpy as np
import pytest
from original_formats import leaf_image, write_leaf

from fedkeras.config import Config
from fedkeras.data import Source, describe, load_client, load_test, open_source
from fedkeras.data.readers.femnist_hub import convert
from fedkeras.data.readers.leaf import CLASSES
from fedkeras.errors import UserError

BLACK = {0: 0.0}


def config(folder: Path, **more: object) -> Config:
    return Config(dataset="femnist", data_dir=str(folder), **more)


def inks(source: Source) -> list[tuple[str, int, int]]:
    """(writer, label, first inked pixel) of each training image."""
    every = source.examples(np.arange(len(source.labels)))
    return [
        (str(writer), int(y), int(np.flatnonzero(x)[0]))
        for writer, y, x in zip(source.groups, every.y, every.x, strict=True)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Writers b (train in two files), a; `a` repeats an image within train, and one across train and test."""
    one, two, three, four = (leaf_image({pixel: 0.0}) for pixel in (1, 2, 3, 4))
    write_leaf(tmp_path / "train" / "1.json", {"b": ([one, two], [0, 10]), "a": ([one, one, two, three], [5, 5, 6, 7])})
    write_leaf(tmp_path / "train" / "2.json", {"b": ([two, three], [10, 61])})
    write_leaf(tmp_path / "test" / "1.json", {"a": ([three], [7]), "b": ([four, four], [1, 1])})
    return tmp_path


def test_writers_are_merged_and_no_image_counts_twice(folder: Path) -> None:
    source = open_source(config(folder))
    assert inks(source) == [("a", 5, 1), ("a", 6, 2), ("b", 0, 1), ("b", 10, 2), ("b", 61, 3)]
    test = source.test()
    assert list(test.y) == [7, 1] and [int(np.flatnonzero(x)[0]) for x in test.x] == [3, 4]
    assert source.notes == ("3 training and 1 test images left out: repetitions of a writer's other images",)
    assert [source.classes[label] for label in (0, 9, 10, 35, 36, 61)] == ["0", "9", "A", "Z", "a", "z"]


def test_paper_is_0_and_ink_is_1(tmp_path: Path) -> None:
    page = leaf_image({28: 0.0, 29: 51 / 255})
    write_leaf(tmp_path / "train" / "1.json", {"w": ([page, leaf_image({5: 0.0})], [3, 3])})
    write_leaf(tmp_path / "test" / "1.json", {"w": ([leaf_image({6: 0.0})], [3])})
    source = open_source(config(tmp_path))
    raw = source.examples(np.array([0])).x[0, :, :, 0]
    assert source._x.dtype == np.uint8 and source.input_shape == (28, 28, 1)
    assert raw[1, 0] == 255 and raw[1, 1] == 204 and raw.sum() == 459  # row 1: pixels 28 and 29
    client = load_client(config(tmp_path, num_partitions=1, test_fraction=0.0), 0)
    np.testing.assert_allclose(client.train.x[0, 1, :2, 0], [1.0, 0.8], rtol=1e-6)
    assert load_test(config(tmp_path, num_partitions=1, test_fraction=0.0)).x.max() == 1.0


def test_copies_of_another_run_are_known_by_nearness(tmp_path: Path) -> None:
    """Two runs of LEAF's sampler scale a scan a little differently; within one run, near images are two images."""
    pixels = [0, 40, 80]
    run_a = [leaf_image({p: 0.0, p + 1: 0.5019608}) for p in pixels]
    run_b = [leaf_image({p: 0.0, p + 1: 0.5019608 + 20 / 255}) for p in pixels]
    write_leaf(tmp_path / "train" / "a.json", {"both": (run_a[:2], [1, 1]), "once": ([run_a[0], run_b[0]], [1, 1])})
    write_leaf(tmp_path / "test" / "a.json", {"both": (run_a[2:], [1])})
    write_leaf(tmp_path / "train" / "b.json", {"both": (run_b[1:], [1, 1])})
    write_leaf(tmp_path / "test" / "b.json", {"both": (run_b[:1], [1])})
    source = open_source(config(tmp_path))
    # `both`: images 2 (run a) and 0 (run b) are test images, so only image 1 is left to train on, once
    assert inks(source) == [("both", 1, 40), ("once", 1, 0), ("once", 1, 0)]
    assert len(source.test()) == 2


def test_values_that_are_no_255ths_stay_floats(tmp_path: Path) -> None:
    write_leaf(tmp_path / "train" / "1.json", {"w": ([leaf_image({0: 0.3333}), leaf_image(BLACK)], [1, 2])})
    write_leaf(tmp_path / "test" / "1.json", {"w": ([leaf_image({1: 0.0})], [2])})  # bytes would do here
    source = open_source(config(tmp_path))
    np.testing.assert_allclose(source.examples(np.array([0])).x[0, 0, 0, 0], 0.6667, rtol=1e-6)
    assert source.test().x.max() == 1.0 and source.known_range == (0.0, 1.0)


def test_min_samples_counts_both_parts(folder: Path) -> None:
    source = open_source(config(folder, min_samples=4))  # a has 2 + 1 images, b has 3 + 1
    assert set(source.groups) == {"b"} and len(source.labels) == 3 and list(source.test().y) == [1]
    assert source.notes[1] == "1 writers with fewer than 4 images left out, with 3 images"
    with pytest.raises(UserError, match="--min-samples 5 leaves out every writer; the largest has 4"):
        open_source(config(folder, min_samples=5))


def test_a_writer_with_test_images_only_is_no_client(folder: Path) -> None:
    write_leaf(folder / "test" / "2.json", {"c": ([leaf_image({9: 0.0})], [9])})
    source = open_source(config(folder))
    assert set(source.groups) == {"a", "b"} and sorted(source.test_labels()) == [1, 7, 9]
    with pytest.raises(UserError, match=r"--num-partitions is 3, .* only 2 writers"):
        describe(config(folder, partitioner="natural", num_partitions=3))


def edit(change) -> object:
    """A damage that changes the parsed JSON of train/1.json."""

    def damage(folder: Path) -> None:
        path = folder / "train" / "1.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return damage


def set_sizes(content: dict) -> None:
    content["num_samples"] = [2, 5]


def drop_user(content: dict) -> None:
    content["users"] = ["b"]
    content["num_samples"] = [2]


def drop_key(content: dict) -> None:
    del content["user_data"]["a"]["y"]


def label_62(content: dict) -> None:
    content["user_data"]["a"]["y"][0] = 62


def label_half(content: dict) -> None:
    content["user_data"]["a"]["y"][0] = 0.5


def ragged(content: dict) -> None:
    content["user_data"]["a"]["x"][0].pop()


def too_bright(content: dict) -> None:
    content["user_data"]["a"]["x"][0][0] = 255


def text(content: dict) -> None:
    content["user_data"]["a"]["x"][0][0] = "ink"


def truncate(folder: Path) -> None:
    path = folder / "train" / "1.json"
    path.write_text(path.read_text()[:100])


def no_test_folder(folder: Path) -> None:
    (folder / "test" / "1.json").unlink()
    (folder / "test").rmdir()


def no_files(folder: Path) -> None:
    (folder / "test" / "1.json").rename(folder / "test" / "1.txt")


def all_empty(folder: Path) -> None:
    write_leaf(folder / "train" / "1.json", {"a": ([], [])})
    write_leaf(folder / "train" / "2.json", {})


def nobody(folder: Path) -> None:
    for path in folder.glob("t*/*.json"):
        write_leaf(path, {})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (edit(set_sizes), "num_samples says 5 for writer a, but there are 4 images and 4 labels"),
        (edit(drop_user), "name different writers"),
        (edit(drop_key), "not in LEAF's format"),
        (edit(label_62), "whole numbers from 0 to 61"),
        (edit(label_half), "whole numbers from 0 to 61"),
        (edit(ragged), "lists of 784 numbers"),
        (edit(too_bright), "between 0 .* and 1"),
        (edit(text), "lists of 784 numbers"),
        (truncate, "is not JSON"),
        (no_test_folder, "has no folder test/"),
        (no_files, "holds no .json file"),
        (all_empty, "hold not one image"),
        (nobody, "hold not one image"),
    ],
)
def test_damaged_files_are_one_clear_line(folder: Path, damage, said: str, own_cache: Path) -> None:
    damage(folder)
    with pytest.raises(UserError, match=said) as error:
        open_source(config(folder))
    assert "\n" not in str(error.value)


def test_table_of_flower_datasets(tmp_path: Path) -> None:
    """As flwrlabs/femnist has it: PIL images with paper 255, and here its classes in another order."""
    from datasets import ClassLabel, Dataset, Features, Image, Value
    from PIL import Image as Pillow

    names = list(reversed(CLASSES))
    columns: dict[str, list] = {"image": [], "writer_id": [], "hsf_id": [], "character": []}
    for writer in ("f0001_41", "f0000_14"):
        for i in range(20):
            page = np.full((28, 28), 255, dtype=np.uint8)
            page[0, i] = 0
            columns["image"].append(Pillow.fromarray(page))
            columns["writer_id"].append(writer)
            columns["hsf_id"].append(0)
            columns["character"].append(names.index("A"))
    kinds = {"image": Image(), "writer_id": Value("string"), "hsf_id": Value("int64")}
    table = Dataset.from_dict(columns, features=Features(kinds | {"character": ClassLabel(names=names)}))
    arrays = convert(table)
    assert list(arrays["writers"]) == ["f0000_14", "f0001_41"]
    assert list(np.bincount(arrays["train_writer"])) == [18, 18] and list(np.bincount(arrays["test_writer"])) == [2, 2]
    assert set(arrays["train_y"]) == {10} and set(arrays["test_y"]) == {10}
    ink = np.concatenate([arrays[f"{part}_x"][arrays[f"{part}_writer"] == 0] for part in ("train", "test")])
    assert sorted(np.argmax(ink.reshape(20, 784), axis=1)) == list(range(20)) and (ink.sum(axis=(1, 2)) == 255).all()
    again = convert(table)
    assert all(np.array_equal(arrays[key], again[key]) for key in arrays)


def test_without_files_and_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    said = r"cannot get flwrlabs/femnist .*--data-dir .*github\.com/TalwalkarLab/leaf"
    with pytest.raises(UserError, match=said) as error:
        open_source(Config(dataset="femnist"))
    assert "\n" not in str(error.value)


def test_real_files(real_data: Path) -> None:
    source = open_source(config(real_data / "femnist" / "leaf"))
    assert len(np.unique(source.groups)) == 207 and len(source.classes) == 62
    assert (len(source.labels), len(source.test_labels())) == (27942, 3354)
    # ink is sparse and high: the files have it the other way round
    sample = source.examples(np.arange(0, 27942, 50)).x / 255
    assert sample.mean() < 0.2 and sample.max() == 1.0
    natural = describe(config(real_data / "femnist" / "leaf", partitioner="natural")).partition.parts
    writers = [set(source.groups[part]) for part in natural]
    assert sum(map(len, writers)) == 207 and not writers[0] & writers[1]
