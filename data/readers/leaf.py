"""LEAF's JSON: one dictionary of writers a file, their images as lists of 784 numbers, 1.0 paper and 0.0 ink.

Caldas et al., "LEAF: A Benchmark for Federated Settings", arXiv:1812.01097.
"""

import json
import string
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fedkeras.errors import UserError

CLASSES = tuple(string.digits + string.ascii_uppercase + string.ascii_lowercase)
Images = tuple[np.ndarray, np.ndarray]  # (n, 784) with ink = 255 (uint8) or ink = 1 (float32); (n,) labels


def read_leaf(path: Path) -> Iterator[tuple[str, Images]]:
    """Each writer of the file `path` with the images the file has of them, inverted: paper 0, ink high.

    Images are uint8 where all values are whole 255ths, as they are in FEMNIST, else float32.
    Raises UserError for anything that is not as LEAF writes it.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:  # malformed JSON, or no UTF-8
        raise UserError(f"{path} is not JSON ({error}); copy it again") from None
    try:
        users, sizes, of_user = content["users"], content["num_samples"], content["user_data"]
        lists = [(of_user[user]["x"], of_user[user]["y"]) for user in users]
    except (KeyError, TypeError) as error:
        parts = "users, num_samples, user_data with x and y"
        raise UserError(f"{path} is not in LEAF's format, which has {parts} ({error!r})") from None
    del content
    if len(users) != len(sizes) or set(users) != set(of_user):
        raise UserError(f"{path} contradicts itself: users, num_samples and user_data name different writers")
    for user, size, (x, y) in zip(users, sizes, lists, strict=True):
        if not size == len(x) == len(y):
            raise UserError(
                f"{path} contradicts itself: num_samples says {size} for writer {user}, "
                f"but there are {len(x)} images and {len(y)} labels"
            )
        if size:
            yield user, _images(x, y, f"{path}, writer {user}")


def _images(x: list, y: list, where: str) -> Images:
    try:
        paper, labels = np.asarray(x, dtype=np.float32), np.asarray(y)
    except (ValueError, TypeError):
        raise UserError(f"{where}: images must be lists of 784 numbers each") from None
    if paper.shape[1:] != (784,):
        raise UserError(f"{where}: images must be lists of 784 numbers each, not {paper.shape[1:]}")
    if not (paper.min() >= 0 and paper.max() <= 1):
        raise UserError(f"{where}: values must lie between 0 (ink) and 1 (paper)")
    are_labels = np.issubdtype(labels.dtype, np.integer) and labels.ndim == 1
    if not are_labels or labels.min() < 0 or labels.max() > 61:
        raise UserError(f"{where}: labels must be whole numbers from 0 to 61")
    whole = np.rint(paper * 255)
    if np.abs(paper * 255 - whole).max() > 1e-3:
        return 1 - paper, labels.astype(np.uint8)
    return (255 - whole).astype(np.uint8), labels.astype(np.uint8)
