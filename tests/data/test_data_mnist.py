"""MNIST from its original files, from Keras' mnist.npz, and downloaded."""

import gzip
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from original_formats import IDX_NAMES, idx_bytes, mnist_arrays, write_idx

from fedkeras.config import Config
from fedkeras.data import load_client, load_test, open_source
from fedkeras.data.readers.download import fetch
from fedkeras.errors import UserError


def config(folder: Path | str, **more: object) -> Config:
    return Config(dataset="mnist", data_dir=str(folder), **more)


def assert_is(source, arrays: dict[str, np.ndarray]) -> None:
    everything = source.examples(np.arange(len(arrays["y_train"])))
    assert everything.x.dtype == np.float32 and everything.y.dtype == np.int32
    np.testing.assert_array_equal(everything.x[..., 0], arrays["x_train"])
    np.testing.assert_array_equal(everything.y, arrays["y_train"])
    np.testing.assert_array_equal(source.test().x[..., 0], arrays["x_test"])
    np.testing.assert_array_equal(source.test().y, arrays["y_test"])


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("dotted", [False, True])
def test_idx_files(tmp_path: Path, zipped: bool, dotted: bool) -> None:
    arrays = mnist_arrays()
    write_idx(tmp_path, arrays, zipped, dotted)
    for _ in ("parsed", "from the cache"):
        assert_is(open_source(config(tmp_path)), arrays)


@pytest.mark.parametrize("zipped", [False, True])
def test_pixels_stay_bytes_on_disk(tmp_path: Path, zipped: bool) -> None:
    source = open_source(config(write_idx(tmp_path, mnist_arrays(), zipped)))
    assert isinstance(source._x, np.memmap) and source._x.dtype == np.uint8


@pytest.mark.parametrize("given", ["", "mnist.npz"])
def test_npz_by_folder_or_by_name(tmp_path: Path, given: str) -> None:
    arrays = mnist_arrays()
    np.savez(tmp_path / "mnist.npz", **arrays)
    assert_is(open_source(config(tmp_path / given)), arrays)


def test_client_and_test_are_scaled_by_255(tmp_path: Path) -> None:
    arrays = mnist_arrays()
    arrays["x_train"][:] = 51
    arrays["x_test"][:] = 102
    write_idx(tmp_path, arrays)
    client = load_client(config(tmp_path), 0)
    np.testing.assert_allclose(client.train.x, 0.2, rtol=1e-6)
    np.testing.assert_allclose(load_test(config(tmp_path)).x, 0.4, rtol=1e-6)


def break_magic(folder: Path) -> None:
    (folder / IDX_NAMES["x_train"]).write_bytes(b"\x00\x00\x0d\x03" + bytes(12))


def truncate_plain(folder: Path) -> None:
    path = folder / IDX_NAMES["x_test"]
    path.write_bytes(path.read_bytes()[:-1])


def truncate_header(folder: Path) -> None:
    (folder / IDX_NAMES["y_test"]).write_bytes(b"\x00\x00")


def truncate_gz(folder: Path) -> None:
    path = folder / IDX_NAMES["x_train"]
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes())[:-20])
    path.unlink()


def not_gz(folder: Path) -> None:
    path = folder / IDX_NAMES["x_train"]
    path.with_name(path.name + ".gz").write_bytes(b"<html>not found</html>")
    path.unlink()


def remove_one(folder: Path) -> None:
    (folder / IDX_NAMES["y_test"]).unlink()


def fewer_labels(folder: Path) -> None:
    (folder / IDX_NAMES["y_train"]).write_bytes(idx_bytes(np.zeros(29)))


def label_out_of_range(folder: Path) -> None:
    (folder / IDX_NAMES["y_train"]).write_bytes(idx_bytes(np.full(30, 10)))


def other_size(folder: Path) -> None:
    (folder / IDX_NAMES["x_train"]).write_bytes(idx_bytes(np.zeros((30, 8, 8))))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (break_magic, "starts with 00000d03, not 00000803"),
        (truncate_plain, "promises 10 x 28 x 28 bytes, 7839 follow"),
        (truncate_header, "ends within its header"),
        (truncate_gz, "truncated or not a gzip file"),
        (not_gz, "truncated or not a gzip file"),
        (remove_one, r"lacks t10k-labels-idx1-ubyte\[.gz\]"),
        (fewer_labels, "30 training examples but 29 labels"),
        (label_out_of_range, "labels run from 10 to 10"),
        (other_size, "not 28 x 28"),
    ],
)
def test_damaged_files_are_one_clear_line(tmp_path: Path, damage, said: str) -> None:
    damage(write_idx(tmp_path, mnist_arrays()))
    with pytest.raises(UserError, match=said) as error:
        open_source(config(tmp_path))
    assert "\n" not in str(error.value)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--data-dir .* is not a folder"):
        open_source(config(tmp_path / "nowhere"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of an HTTP server on this machine that serves the folder `served`."""
    served = tmp_path / "served"
    served.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(served))

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_download_is_checked_and_kept_and_said_once(tmp_path: Path, server: str, caplog) -> None:
    (tmp_path / "served" / "file").write_bytes(b"content")
    folder, digest = tmp_path / "kept", hashlib.sha256(b"content").hexdigest()
    path = fetch(f"{server}/file", digest, folder, "file", "give --data-dir", 3)
    assert path.read_bytes() == b"content"
    (tmp_path / "served" / "file").unlink()
    assert fetch(f"{server}/file", digest, folder, "file", "give --data-dir", 3) == path
    said = f"--data-dir is not given: downloading {server}/file (3 MB) to {folder}"
    assert [record.getMessage() for record in caplog.records] == [said]


def test_wrong_sum_leaves_nothing(tmp_path: Path, server: str, own_cache: Path, monkeypatch) -> None:
    np.savez(tmp_path / "served" / "mnist.npz", **mnist_arrays())
    monkeypatch.setenv("FEDKERAS_MNIST_URL", f"{server}/mnist.npz")
    with pytest.raises(UserError, match=r"its sum is wrong.*--data-dir"):
        open_source(config(""))
    assert not [path for path in own_cache.rglob("*") if path.is_file()]


@pytest.mark.parametrize("address", ["missing.npz", None])
def test_no_answer_is_one_line(tmp_path: Path, server: str, own_cache: Path, monkeypatch, address: str | None) -> None:
    url = f"{server}/{address}" if address else "http://127.0.0.1:9/mnist.npz"
    monkeypatch.setenv("FEDKERAS_MNIST_URL", url)
    with pytest.raises(UserError, match=f"cannot download {url}.*--data-dir") as error:
        open_source(config(""))
    assert "\n" not in str(error.value)
    assert not [path for path in own_cache.rglob("*") if path.is_file()]


def test_real_files(real_data: Path) -> None:
    source = open_source(config(real_data / "mnist"))
    sums = {
        "x_train": "6bbc9ace898e44ae57da46a324031adb",
        "y_train": "a25bea736e30d166cdddb491f175f624",
        "x_test": "2646ac647ad5339dbf082846283269ea",
        "y_test": "27ae3e4e09519cfbb04c329615203637",
    }
    arrays = {"x_train": source._x, "y_train": source.labels, "x_test": source._test_x, "y_test": source._test_y}
    for key, array in arrays.items():
        assert hashlib.md5(idx_bytes(array)).hexdigest() == sums[key]
