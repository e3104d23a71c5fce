"""MNIST: 60,000 + 10,000 handwritten digits, 28x28, ink bright on a dark ground.

LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE 86 (1998).
"""

from pathlib import Path

from fedkeras.config import Config
from fedkeras.data.cache import Arrays, cached, fingerprint
from fedkeras.data.cache import folder as cache_folder
from fedkeras.data.npz import read_npz
from fedkeras.data.readers.download import fetch_mnist
from fedkeras.data.readers.idx import read_idx
from fedkeras.data.source import ArraySource
from fedkeras.errors import UserError

NAMES = ("train-images", "train-labels", "t10k-images", "t10k-labels")


def load(config: Config) -> ArraySource:
    """From the four IDX files or `mnist.npz` in --data-dir, else downloaded to the cache.

    Files in the same formats with other images, such as Fashion-MNIST's, are read just as well.
    Compressed files are unpacked into the cache once, so that a client reads only its own images.
    """
    if not config.data_dir:
        arrays = _unpacked_npz(fetch_mnist(cache_folder()))
    else:
        arrays = _from_folder(Path(config.data_dir).expanduser())
    x_train, y_train, x_test, y_test = (arrays[key] for key in ("x_train", "y_train", "x_test", "y_test"))
    for x in (x_train, x_test):
        if x.shape[1:] != (28, 28):
            raise UserError(f"--data-dir {config.data_dir}: images are {x.shape[1:]}, not 28 x 28")
    return ArraySource(
        "mnist",
        (x_train, y_train),
        (x_test, y_test),
        [str(digit) for digit in range(10)],
        provenance="MNIST, from NIST Special Databases 1 and 3 (LeCun, Cortes and Burges; LeCun et al., Proc. IEEE "
        "86, 1998; CC BY-SA 3.0)",
        input_shape=(28, 28, 1),
        default_normaliser="scale",
        known_range=(0.0, 255.0),
        origin="" if config.data_dir else "downloaded",
    )


def _from_folder(path: Path) -> Arrays:
    if path.is_file() and path.suffix == ".npz":
        return _unpacked_npz(path)
    if not path.is_dir():
        raise UserError(f"--data-dir {path} is not a folder; leave it away, and mnist is downloaded")
    if (path / "mnist.npz").is_file() and not _idx_file(path, NAMES[0]):
        return _unpacked_npz(path / "mnist.npz")
    files = [_idx_file(path, name) for name in NAMES]
    missing = [f"{name}-idx{_dimensions(name)}-ubyte[.gz]" for name, file in zip(NAMES, files, strict=True) if not file]
    if missing:
        raise UserError(f"--data-dir {path} lacks {', '.join(missing)}; it must hold the four IDX files or mnist.npz")

    def read() -> Arrays:
        contents = [read_idx(file, _dimensions(name)) for name, file in zip(NAMES, files, strict=True)]
        return dict(zip(("x_train", "y_train", "x_test", "y_test"), contents, strict=True))

    if not any(file.suffix == ".gz" for file in files):
        return read()  # plain files are memory-mapped as they are
    return cached("mnist", fingerprint(files, "idx"), read)


def _idx_file(path: Path, name: str) -> Path | None:
    """The file as LeCun names it, or with a dot for the first dash as some copies do."""
    ending = f"idx{_dimensions(name)}-ubyte"
    candidates = [path / f"{name}{mark}{ending}{zipped}" for zipped in ("", ".gz") for mark in "-."]
    return next((file for file in candidates if file.is_file()), None)


def _dimensions(name: str) -> int:
    return 3 if name.endswith("images") else 1


def _unpacked_npz(path: Path) -> Arrays:
    return cached("mnist", fingerprint([path], "npz"), lambda: read_npz(path))
