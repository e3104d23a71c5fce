"""An .npz file with x_train, y_train, x_test and y_test, as Keras' own data sets come."""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedkeras.config import Config
from fedkeras.data.cache import Arrays
from fedkeras.data.normalise import Normaliser, checked_normaliser, fit_range
from fedkeras.data.sample_weights import IGNORED, USUAL
from fedkeras.data.source import ArraySource
from fedkeras.errors import UserError

KEYS = ("x_train", "y_train", "x_test", "y_test")
CLASSES = "classes"
"""An array of the classes' names, if the file has it: a part of a data set may hold no example of the last ones."""
NORMALISER = ("normaliser", "shift", "spread")
"""What the file's examples are scaled by, if it says so: the kind, and the numbers of (x - shift) / spread."""
MOST_CLASSES = 100_000
"""A higher label is an id, a year or a price, and not a position in a list of classes."""


def load(config: Config) -> ArraySource:
    """The file that --dataset names: a path, taken from --data-dir if it is relative and that is set.

    A greyscale image (n, height, width) gets a channel axis. Labels are integers from 0; classes are as many as the
    largest says, or as an array `classes` names. Images of bytes have the known range 0..255 and are scaled by default,
    other values z-scored, unless the file says itself what it is scaled by, as parts do. An array called sample_weight,
    or as --sample-weight says, weighs each training example.
    """
    path = Path(config.data_dir) / config.dataset if config.data_dir else Path(config.dataset)
    name = config.sample_weight or USUAL
    arrays = read_npz(path.expanduser(), name)
    if name not in arrays and config.sample_weight not in ("", IGNORED):
        raise UserError(f"--sample-weight {name}: {path} has no array of this name beside {', '.join(KEYS)}")
    x, y = arrays["x_train"], arrays["y_train"]
    is_bytes, normaliser = x.dtype == np.uint8, normaliser_of(arrays, path, x.shape)
    shape = (*x.shape[1:], 1) if x.ndim == 3 and is_bytes else x.shape[1:]
    highest = max((int(np.max(arrays[k])) for k in ("y_train", "y_test") if len(arrays[k])), default=0)
    classes = [str(name) for name in arrays[CLASSES].ravel()] if CLASSES in arrays else None
    if classes is not None and highest >= len(classes):
        raise UserError(f"{path} has the label {highest}, and its array {CLASSES} names {len(classes)} classes, from 0")
    if highest >= MOST_CLASSES:
        raise UserError(
            f"{path} has the label {highest}; labels number the classes from 0, of which there may be {MOST_CLASSES}: "
            "number them anew (np.unique with return_inverse=True)"
        )
    return ArraySource(
        path.stem,
        (x, y),
        (arrays["x_test"], arrays["y_test"]),
        classes or [str(number) for number in range(highest + 1)],
        provenance=f"the user's own file {path}",
        input_shape=shape,
        default_normaliser=normaliser.name if normaliser else "scale" if is_bytes else "zscore",
        known_range=(0.0, 255.0) if is_bytes else None,
        normaliser=normaliser,
        sample_weight=arrays.get(name),
    )


@dataclass(frozen=True)
class TestFile:
    """A test set alone. x (n, ...) is not scaled; None for what the file does not say."""

    x: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...] | None
    normaliser: Normaliser | None


def read_test(path: Path) -> TestFile:
    """x_test and y_test of a file, such as test.npz of `data --write`. Raises UserError.

    Where it does not say what it is scaled by and holds bytes, these are scaled by 255, as `load` has it.
    """
    arrays = read_npz(path, keys=KEYS[2:])
    x, y = arrays["x_test"], arrays["y_test"].reshape(-1)
    if len(x) != len(y):
        raise UserError(f"{path}: {len(x)} examples but {len(y)} labels; they must be as many")
    normaliser = normaliser_of(arrays, path, x.shape)
    if normaliser is None and x.dtype == np.uint8:
        normaliser = fit_range("scale", np.float64(0.0), np.float64(255.0))
    if x.ndim == 3 and x.dtype == np.uint8:
        x = x[..., None]
    keeps = np.result_type(x.dtype, np.float32) == np.float64
    classes = tuple(str(name) for name in arrays[CLASSES].ravel()) if CLASSES in arrays else None
    return TestFile(x if keeps else x.astype(np.float32), y.astype(np.int64), classes, normaliser)


def normaliser_arrays(normaliser: Normaliser) -> Arrays:
    """What a file holds that says by what its examples are scaled."""
    return dict(zip(NORMALISER, (np.array(normaliser.name), normaliser.shift, normaliser.spread), strict=True))


def normaliser_of(arrays: Arrays, path: Path, shape: tuple[int, ...]) -> Normaliser | None:
    """What a file with examples of `shape` (n, ...) says that they are scaled by; None: nothing. Raises UserError."""
    found = [arrays.get(key) for key in NORMALISER]
    if any(each is None for each in found):  # a file of somebody's own may have an array of such a name
        return None
    try:
        return checked_normaliser(str(found[0]), *found[1:], features=shape[-1])
    except ValueError as error:
        raise UserError(f"{path} does not say rightly by what its examples are scaled: {error}") from None


def read_npz(path: Path, weights: str = USUAL, keys: Sequence[str] = KEYS) -> Arrays:
    """The arrays `keys` of the file, x and y by turns, those that say more of them, and `weights` if it is there.

    Raises UserError where the file is missing, damaged, empty, or holds other keys.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; give the path of an .npz file with {', '.join(keys)}")
    try:
        content = np.load(path, allow_pickle=False)
        if not isinstance(content, np.lib.npyio.NpzFile):  # np.save writes one array, whatever the name
            raise ValueError("it holds a single array; np.savez writes several")
        with content as file:
            missing = [key for key in keys if key not in file.files]
            if missing:
                raise UserError(f"{path} has no {', '.join(missing)}; it holds: {', '.join(file.files) or 'nothing'}")
            arrays = {key: file[key] for key in (*keys, CLASSES, *NORMALISER, weights) if key in file.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(f"{path} is damaged, or no .npz file of plain arrays ({error})") from None
    xs, ys = keys[::2], keys[1::2]
    if any(arrays[key].ndim == 0 for key in keys) or not len(arrays[xs[0]]):
        raise UserError(f"{path} is empty: {xs[0]} must hold one example at least")
    if arrays[xs[0]].ndim < 2 or not np.issubdtype(arrays[xs[0]].dtype, np.number):
        raise UserError(f"{path}: {xs[0]} must be numbers of shape (examples, ...)")
    for key in ys:
        if not np.issubdtype(arrays[key].dtype, np.integer):
            raise UserError(f"{path}: {key} must be integer labels, not {arrays[key].dtype}")
    return arrays
