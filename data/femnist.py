"""FEMNIST: digits and letters of 62 classes by some 3,500 writers, each a natural client.

From NIST Special Database 19, as LEAF prepares it (Caldas et al., arXiv:1812.01097). Paper is 0 and ink is high here,
as in MNIST; the files have it the other way round.
"""

from pathlib import Path

import numpy as np

from fedkeras.config import Config
from fedkeras.data.cache import Arrays, cached, fingerprint
from fedkeras.data.readers.leaf import CLASSES, read_leaf
from fedkeras.data.source import ArraySource
from fedkeras.data.writers import merge
from fedkeras.errors import UserError


def load(config: Config) -> ArraySource:
    """LEAF's folders train/ and test/ in --data-dir; without it, `flwrlabs/femnist` through Flower Datasets.

    The central test set is all writers' test parts. `min_samples` leaves out writers with fewer images, training and
    test together.
    """
    if config.data_dir:
        arrays, origin = _from_folder(_leaf_folder(Path(config.data_dir).expanduser())), "LEAF's files"
    else:
        from fedkeras.data.readers.femnist_hub import NAME, download

        arrays, origin = cached("femnist", "flwrlabs-1", download), NAME
    return _source(arrays, config.min_samples, origin)


def _from_folder(folder: Path) -> Arrays:
    train, test = (sorted((folder / part).glob("*.json")) for part in ("train", "test"))

    def read() -> Arrays:  # one file at a time: LEAF's largest hold 200 MB of text each
        parts = ((entry for file in files for entry in read_leaf(file)) for files in (train, test))
        return merge(*parts)

    return cached("femnist", fingerprint([*train, *test], "leaf", 2), read)


def _source(arrays: Arrays, min_samples: int, origin: str) -> ArraySource:
    writers, of_train, of_test = arrays["writers"], arrays["train_writer"], arrays["test_writer"]
    if not len(of_train):
        raise UserError("femnist: the files in train/ hold not one image; check --data-dir")
    counts = np.bincount(of_train, minlength=len(writers)) + np.bincount(of_test, minlength=len(writers))
    keep = counts >= min_samples
    if not keep[of_train].any():
        raise UserError(f"--min-samples {min_samples} leaves out every writer; the largest has {counts.max()} images")
    train, test = ((arrays[f"{name}_x"], arrays[f"{name}_y"]) for name in ("train", "test"))
    repeated = arrays["repeated"]
    notes = [f"{repeated[0]} training and {repeated[1]} test images left out: repetitions of a writer's other images"]
    if not keep.all():
        # a filter copies what it keeps; the usual case, all writers, stays memory-mapped
        in_train, in_test = keep[of_train], keep[of_test]
        train, test = (train[0][in_train], train[1][in_train]), (test[0][in_test], test[1][in_test])
        of_train = of_train[in_train]
        few = f"{np.sum(~keep)} writers with fewer than {min_samples} images left out"
        notes.append(f"{few}, with {counts[~keep].sum()} images")
    return ArraySource(
        "femnist",
        train,
        test,
        CLASSES,
        provenance="FEMNIST of LEAF (Caldas et al., arXiv:1812.01097), from NIST Special Database 19 "
        f"(public domain), {len(np.unique(of_train))} writers",
        input_shape=(28, 28, 1),
        groups=writers[of_train],
        default_normaliser="scale",
        known_range=(0.0, 255.0 if train[0].dtype == np.uint8 else 1.0),
        notes=notes,
        origin=origin,
    )


def _leaf_folder(path: Path) -> Path:
    if not path.is_dir():
        raise UserError(f"--data-dir {path} is not a folder; it must hold LEAF's train/ and test/")
    folder = next((here for here in (path, path / "leaf", path / "data") if (here / "train").is_dir()), path)
    for part in ("train", "test"):
        if not (folder / part).is_dir():
            raise UserError(f"--data-dir {path} has no folder {part}/; it must hold LEAF's train/ and test/")
        if not any((folder / part).glob("*.json")):
            raise UserError(f"{folder / part} holds no .json file; run LEAF's preprocess.sh for femnist again")
    return folder
