"""A folder of images with a folder a class: the bytes that were written come out, and what cannot be is one line."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedkeras import models
from fedkeras.config import Config
from fedkeras.data import load_client, open_source, told
from fedkeras.data.readers import images
from fedkeras.data.readers.images import parse_size, read_images
from fedkeras.errors import UserError
from fedkeras.factory import model_name
from fedkeras.named_code import Permission


def write(path: Path, pixels: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(pixels, np.uint8))
    (image.convert(mode) if mode else image).save(path)


def grey(value: int, height: int = 2, width: int = 3) -> np.ndarray:
    return np.arange(height * width).reshape(height, width) + value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten grey images of two classes, in formats that lose nothing."""
    for i in range(6):
        write(tmp_path / "photos" / "dog" / f"{i}.{('png', 'bmp', 'PNG')[i % 3]}", grey(10 * i))
    for i in range(4):
        write(tmp_path / "photos" / "cat" / f"{i}.png", grey(100 + 10 * i))
    (tmp_path / "photos" / "dog" / "notes.txt").write_text("not an image")
    (tmp_path / "photos" / ".hidden").mkdir()
    return tmp_path / "photos"


def test_the_bytes_come_out_under_their_class(folder: Path) -> None:
    config = Config(dataset=str(folder))
    source = open_source(config)
    assert (source.classes, source.input_shape, source.name) == (("cat", "dog"), (2, 3, 1), "photos")
    parts = source.examples(np.arange(len(source.labels))), source.test()
    found = {
        int(x[0, 0, 0]): (x[..., 0].tolist(), int(y)) for part in parts for x, y in zip(part.x, part.y, strict=True)
    }
    expected = {10 * i: (grey(10 * i).tolist(), 1) for i in range(6)}
    expected |= {100 + 10 * i: (grey(100 + 10 * i).tolist(), 0) for i in range(4)}
    assert found == expected
    assert np.bincount(source.test_labels()).tolist() == [1, 1]  # a fifth of each
    assert source.chosen["channels"] == "grey, since no image has colours"
    assert model_name(config) == "image_cnn"
    assert load_client(config, 0).train.x.max() <= 1  # bytes are scaled by 255


def test_a_folder_that_says_what_is_for_testing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "both").mkdir()
    folder.rename(tmp_path / "both" / "train")
    write(tmp_path / "both" / "test" / "dog" / "9.png", grey(7))
    source = open_source(Config(dataset=str(tmp_path / "both")))
    assert len(source.labels) == 10 and source.test().y.tolist() == [1]
    assert source.test().x[0, ..., 0].tolist() == grey(7).tolist()
    own = Config(dataset=str(tmp_path / "both"), partitioner="own")
    assert open_source(own).held_out.tolist() == [10]


def test_colours_of_one_image_make_all_of_them_coloured(folder: Path) -> None:
    write(folder / "cat" / "9.png", np.full((2, 3, 3), (200, 100, 50)))
    source = open_source(Config(dataset=str(folder)))
    assert source.input_shape == (2, 3, 3) and "1 of 11 images have colours" in source.chosen["channels"]
    pixels = {tuple(x[0, 0].tolist()) for x in source.examples(np.arange(len(source.labels))).x}
    pixels |= {tuple(x[0, 0].tolist()) for x in source.test().x}
    assert (200, 100, 50) in pixels and (10, 10, 10) in pixels
    assert open_source(Config(dataset=str(folder), image_size="2x3x1")).input_shape == (2, 3, 1)


def test_other_sizes_need_the_flag(folder: Path) -> None:
    write(folder / "dog" / "8.png", np.full((4, 6), 77))
    with pytest.raises(UserError, match=r"8\.png is 4 pixels high and 6 wide: --image-size 2x3, or another"):
        open_source(Config(dataset=str(folder)))
    source = open_source(Config(dataset=str(folder), image_size="2x3"))
    assert source.chosen["image size"] == "1 of 11 images are brought to 2 x 3 (bilinear)"
    values = np.concatenate([source.examples(np.arange(len(source.labels))).x, source.test().x])
    assert sum((x == 77).all() for x in values) == 1  # of one shade, whatever its size


@pytest.mark.parametrize(
    ("text", "size"), [("", None), ("64", (64, 64, 0)), ("2x3", (2, 3, 0)), ("2X3x1", (2, 3, 1)), ("9x8x3", (9, 8, 3))]
)
def test_the_flag(text: str, size: tuple | None) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["0", "5000", "64x", "64,64", "2x3x2", "1x2x3x4", "-1", "a", "\u0663"])
def test_the_flag_with_nonsense(text: str) -> None:
    with pytest.raises(UserError, match="--image-size is"):
        parse_size(text)


def broken(folder: Path) -> None:
    (folder / "cat" / "0.png").write_bytes((folder / "cat" / "0.png").read_bytes()[:45])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (broken, "cat/0.png is no image that can be read ("),
        (lambda folder: (folder / "cat" / "0.png").write_text("hello"), "cat/0.png is no image that can be read"),
        (lambda folder: (folder / "cat" / "0.png").write_bytes(b""), "cat/0.png is no image that can be read"),
        (lambda folder: Image.new("L", (3, 2)).save(folder / "cat" / "5.png", "TIFF"), "5.png is no image that can be"),
        (lambda folder: (folder / "fox").mkdir(), "fox has no image (.png, .jpg, .jpeg, .bmp, .gif): delete"),
        (lambda folder: write(folder / "fox" / "deep" / "1.png", grey(1)), "folders in a class's folder are not"),
        (lambda folder: write(folder / "1.png", grey(1)), "1.png lies in no class's folder"),
        (lambda folder: Image.new("I;16", (3, 2)).save(folder / "cat" / "5.png"), "has more than 8 bits a channel"),
    ],
)  # fmt: skip
def test_what_is_refused(folder: Path, spoil: object, said: str) -> None:
    spoil(folder)
    with pytest.raises(UserError, match=re.escape(said)) as found:
        open_source(Config(dataset=str(folder)))
    assert "\n" not in str(found.value)


def test_an_empty_folder_and_a_single_image(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no folders: images lie in a folder for each class"):
        open_source(Config(dataset=str(tmp_path)))
    write(tmp_path / "one" / "a" / "1.png", grey(1))
    with pytest.raises(UserError, match="one example"):
        open_source(Config(dataset=str(tmp_path / "one")))


def test_many_images_are_decoded_once_and_kept(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDKERAS_CACHE", str(tmp_path / "cache"))
    files = sorted(folder.glob("*/*.[pbP]*"))
    plain = read_images(files, "3x4").pixels
    monkeypatch.setattr(images, "LARGE", 0)
    monkeypatch.setattr(images, "rows_in_a_block", lambda shape, dtype: 3)
    kept = read_images(files, "3x4").pixels
    assert np.array_equal(kept, plain) and isinstance(kept, np.memmap) and kept.shape == (10, 3, 4, 1)
    monkeypatch.setattr(images, "_decoded", None)
    assert np.array_equal(read_images(files, "3x4").pixels, plain)
    write(files[0], grey(0))  # another time, another key
    with pytest.raises(TypeError):
        read_images(files, "3x4")


def test_without_pillow_a_line_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UserError, match=r"pip install 'fedkeras\[images\]'"):
        open_source(Config(dataset=str(folder), seed=1))


def test_clients_of_a_folder_of_their_own_take_the_servers_size_and_classes(folder: Path, tmp_path: Path) -> None:
    config = told(Config(dataset=str(folder), partitioner="own", image_size="4"))
    assert (config.image_size, config.classes) == ("4x4x1", "cat,dog")
    write(tmp_path / "mine" / "dog" / "1.png", np.full((5, 5, 3), 9))
    source = open_source(
        Config(dataset=str(tmp_path / "mine"), partitioner="own", image_size="4x4x1", classes="cat,dog")
    )
    assert source.labels.tolist() == [1] and source.input_shape == (4, 4, 1)
    write(tmp_path / "mine" / "fox" / "1.png", np.full((5, 5, 3), 9))
    with pytest.raises(UserError, match="have the class 'fox', which is not among those of this run: cat, dog"):
        open_source(Config(dataset=str(tmp_path / "mine"), partitioner="own", classes="cat,dog"))


def test_a_folder_that_a_server_names_is_the_clients_own_of_that_name() -> None:
    permission = Permission.parse("", dataset="/mine/photos")
    assert permission.require("dataset", "/theirs/photos/") == "/mine/photos"
    assert permission.require("dataset", "C\\photos") == "/mine/photos"
    for name in ("/theirs/other", "photos.npz", "photos:load", ""):
        with pytest.raises(UserError):
            permission.require("dataset", name)
    with pytest.raises(UserError):
        Permission.parse("", dataset="mine:photos").require("dataset", "photos")
    with pytest.raises(UserError):
        permission.require("model", "/theirs/photos")


def test_the_default_model_takes_any_size() -> None:
    for shape in ((1, 1, 1), (8, 8, 1), (9, 5, 3), (100, 40, 3)):
        model = models.build("image_cnn", input_shape=shape, num_classes=3)
        assert model(np.zeros((2, *shape), np.float32)).shape == (2, 3)
