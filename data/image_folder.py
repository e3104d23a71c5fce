"""Your own images: a folder with a folder a class, as Keras' image_dataset_from_directory has it.

    photos/cat/1.png  photos/cat/2.jpg  photos/dog/1.png          a fifth of each class is the central test set
    photos/train/cat/1.png  ...  photos/test/cat/9.png  ...       `test` is

Classes are numbered in the order of their folders' names. All images are of one size, or brought to --image-size.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fedkeras.config import Config
from fedkeras.data.columns import names_in
from fedkeras.data.own_file import part_of_test, parts_of, path_of, said_of
from fedkeras.data.readers.images import SUFFIXES, read_images
from fedkeras.data.source import ArraySource
from fedkeras.data.targets import targets_of
from fedkeras.errors import UserError

PARTS = ("train", "test")


def load(config: Config) -> ArraySource:
    """The folder that --dataset names. Raises UserError for one that is not what it should be."""
    folder = path_of(config)
    halves = [folder / part for part in PARTS]
    divided = {path.name for path in _folders(folder)} == {*PARTS} and all(_folders(half) for half in halves)
    found = [_files(half) for half in (halves if divided else [folder])]
    files = [path for _, path in (pair for half in found for pair in half)]
    names = np.array([name for half in found for name, _ in half])
    known = names_in(config.classes, "classes")
    targets = targets_of(names, config.task, f"the classes in {folder}", known)
    images = read_images(files, config.image_size)
    own = part_of_test(config, len(found[0]), len(files)) if divided else parts_of(config, targets, folder)
    train, test = own
    said = said_of(config, targets, len(test), drawn=not divided)
    return ArraySource(
        folder.resolve().name,
        (images.pixels, targets.positions[train]),
        (images.pixels, targets.positions[test]),
        targets.names,
        rows=(train, test),
        provenance=f"the user's own folder {folder}",
        default_normaliser="scale",
        known_range=(0.0, 255.0),
        held_out=np.arange(len(found[0]), len(files)) if divided else None,
        chosen={**images.notes, **said},
    )


def _folders(folder: Path) -> list[Path]:
    """The folders in this one, in the order of their names, without hidden ones."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror or error}") from None


def _files(folder: Path) -> list[tuple[str, Path]]:
    """All images with their classes, in the order of classes and of names. Raises UserError."""
    classes = _folders(folder)
    if loose := next(_images(folder), None):
        raise UserError(f"{loose} lies in no class's folder: in {folder} there is a folder for each class")
    if not classes:
        raise UserError(f"{folder} has no folders: images lie in a folder for each class")
    found = []
    for each in classes:
        images = sorted(_images(each))
        if not images:
            deeper = "; folders in a class's folder are not looked into" if _folders(each) else ""
            raise UserError(f"{each} has no image ({', '.join(SUFFIXES)}){deeper}: delete the folder, or fill it")
        found += [(each.name, path) for path in images]
    return found


def _images(folder: Path) -> Iterable[Path]:
    return (
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )
