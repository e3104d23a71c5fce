"""Images gathered by writer, each image once, and none in both the training and the test part.

LEAF's files repeat images: nearly every writer has one twice, sometimes across its train and test part; and a writer
that two runs of LEAF's sampler drew stands in both runs' files, split differently. Two runs on different machines do
not even agree on the pixels, as another version of Pillow scaled the scans: seen on eight writers, copies differed by
at most 22 of 255 in any pixel, and different images of one writer by 27 or more. Hence SAME.
"""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from fedkeras.data.cache import Arrays
from fedkeras.data.readers.leaf import Images

SAME = 24  # of 255: largest difference of any pixel between two copies of one scan


def merge(train: Iterable[tuple[str, Images]], test: Iterable[tuple[str, Images]]) -> Arrays:
    """Merge the entries (writer, images) of several files.

    Returns train_x (n, 28, 28), train_y, train_writer (a position in `writers`), the same for test, `writers`, and
    `repeated`: the numbers of training and test images left out because they are repetitions.
    """
    entries: dict[str, dict[str, list[Images]]] = {"test": defaultdict(list), "train": defaultdict(list)}
    for part, given in (("train", train), ("test", test)):
        for writer, images in given:
            entries[part][writer].append(images)
    writers = sorted({*entries["train"], *entries["test"]})
    chosen: dict[str, list[tuple[int, np.ndarray, np.ndarray]]] = {"train": [], "test": []}
    repeated = {"train": 0, "test": 0}
    for number, writer in enumerate(writers):
        # test first: an image that some run tested on is not trained on, whatever another run did with it
        parts = [(part, *pair) for part in ("test", "train") for pair in entries[part].pop(writer, [])]
        in_several_runs = len(parts) > len({part for part, *_ in parts})
        seen: dict[int, list[np.ndarray]] = defaultdict(list)
        known: set[bytes] = set()
        for part, x, y in parts:
            keep = [_is_new(image, known, seen[int(label)], in_several_runs) for image, label in zip(x, y, strict=True)]
            repeated[part] += len(keep) - sum(keep)
            chosen[part].append((number, x[keep], y[keep]))
    arrays = {"writers": np.array(writers), "repeated": np.array([repeated["train"], repeated["test"]])}
    types = {x.dtype for part in chosen.values() for _, x, _ in part}
    same_type = np.result_type(*types) if types else np.dtype(np.uint8)  # of no image at all, which the caller says
    for part, pieces in chosen.items():
        owners, sizes = [number for number, *_ in pieces], [len(y) for *_, y in pieces]
        arrays[f"{part}_writer"] = np.repeat(np.array(owners, dtype=np.int32), sizes)
        arrays[f"{part}_y"] = np.concatenate([y for *_, y in pieces] or [np.zeros(0, np.uint8)])
        images = [x if x.dtype == same_type else x.astype(np.float32) / 255 for _, x, _ in pieces]
        arrays[f"{part}_x"] = np.concatenate(images or [np.zeros((0, 784), same_type)]).reshape(-1, 28, 28)
    return arrays


def _is_new(image: np.ndarray, known: set[bytes], of_label: list[np.ndarray], in_several_runs: bool) -> bool:
    """True the first time; remembers the image among the bytes `known` and the images `of_label`."""
    content = image.tobytes()
    if content in known:
        return False
    known.add(content)
    if in_several_runs:
        scale = 1 if image.dtype == np.uint8 else 255
        value = image.astype(np.float32) * scale
        if of_label and np.abs(np.stack(of_label) - value).max(axis=1).min() <= SAME + 0.5:
            return False
        of_label.append(value)
    return True
