"""FEMNIST without LEAF's files: `flwrlabs/femnist` through Flower Datasets, 814,277 images of 3,597 writers.

The set has one split, so each writer's images are divided here as LEAF does, nine parts training and one test.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from fedkeras.data.cache import Arrays
from fedkeras.data.readers.download import NOT_GIVEN, say
from fedkeras.data.readers.leaf import CLASSES, Images
from fedkeras.data.writers import merge
from fedkeras.errors import UserError, reason_of
from fedkeras.randomness import generator

if TYPE_CHECKING:
    from datasets import Dataset

NAME = "flwrlabs/femnist"
MEGABYTES = 201
TEST_FRACTION = 0.1


def download() -> Arrays:
    """Fetch the set and convert it. Raises UserError where there is no network."""
    from flwr_datasets import FederatedDataset
    from flwr_datasets.partitioner import IidPartitioner

    say(f"{NAME}, which holds other examples than LEAF's files,", MEGABYTES, "Hugging Face's cache", NOT_GIVEN)
    try:
        # a partitioner must be named although ours are used: all is taken as one split
        table = FederatedDataset(dataset=NAME, partitioners={"train": IidPartitioner(1)}).load_split("train")
    except Exception as error:  # the hub's libraries raise whatever their HTTP client does
        raise UserError(
            f"cannot get {NAME} ({reason_of(error)[:200]}); give --data-dir with LEAF's train/ and test/ folders, "
            "made by https://github.com/TalwalkarLab/leaf (data/femnist, preprocess.sh -s niid -t sample)"
        ) from error
    return convert(table)


def convert(table: "Dataset") -> Arrays:
    """From columns image (PIL, 28x28, paper 255), writer_id and character to what `writers.merge` returns."""
    writers = np.asarray(table["writer_id"][:])
    labels = _labels(table)
    train: list[tuple[str, Images]] = []
    test: list[tuple[str, Images]] = []
    for writer, images, chosen in _by_writer(table, writers, labels):
        # the split must not depend on how many writers there are, so it is drawn for each by name
        order = generator(0, "femnist test", writer).permutation(len(chosen))
        count = round(TEST_FRACTION * len(chosen))
        for part, which in ((test, order[:count]), (train, np.sort(order[count:]))):
            if len(which):
                part.append((writer, (images[which], chosen[which])))
    return merge(train, test)


def _by_writer(
    table: "Dataset", writers: np.ndarray, labels: np.ndarray
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Each writer's inverted images (n, 784) uint8 and labels."""
    images = table.select_columns(["image"])
    order = np.argsort(writers, kind="stable")
    names, starts = np.unique(writers[order], return_index=True)
    for name, rows in zip(names, np.split(order, starts[1:]), strict=True):
        pixels = np.stack([np.asarray(image.convert("L"), dtype=np.uint8) for image in images.select(rows)["image"]])
        if pixels.shape[1:] != (28, 28):
            raise UserError(f"{NAME} holds images of {pixels.shape[1:]} pixels, not 28 x 28")
        yield str(name), 255 - pixels.reshape(-1, 784), labels[rows]


def _labels(table: "Dataset") -> np.ndarray:
    """Class numbers in LEAF's order, 0-9 A-Z a-z, whatever order the set numbers its characters in."""
    names = getattr(table.features["character"], "names", None)
    values = table["character"][:]
    characters = [names[value] for value in values] if names else [str(value) for value in values]
    unknown = sorted({*characters} - {*CLASSES})
    if unknown:
        raise UserError(f"{NAME} holds characters that are not among the 62 classes: {', '.join(unknown[:5])}")
    return np.array([CLASSES.index(name) for name in characters], dtype=np.uint8)
