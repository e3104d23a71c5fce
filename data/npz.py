"""An .npz file with x_train, y_train, x_test and y_test, as Keras' own data sets come."""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedkeras.config import Config
from fedkeras.data.cache import Arrays
from fedkeras.data.columns import names_in
from fedkeras.data.normalise import Normaliser, checked_normaliser, fit_range
from fedkeras.data.own_file import path_of
from fedkeras.data.sample_weights import IGNORED, USUAL
from fedkeras.data.source import ArraySource
from fedkeras.data.targets import Targets, targets_of
from fedkeras.errors import UserError

KEYS = ("x_train", "y_train", "x_test", "y_test")
CLASSES = "classes"
"""An array of the classes' names, if the file has it: a part of a data set may hold no example of the last ones."""
NORMALISER = ("normaliser", "shift", "spread")
"""What the file's examples are scaled by, if it says so: the kind, and the numbers of (x - shift) / spread."""
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, AttributeError, RuntimeError)
"""What numpy raises of a file that is none of its own, or torn."""
MOST_CLASSES = 100_000
"""A higher label is an id, a year or a price, and not a position in a list of classes."""


def load(config: Config) -> ArraySource:
    """The file that --dataset names: a path, taken from --data-dir if it is relative and that is set.

    A greyscale image (n, height, width) gets a channel axis. Labels are integers from 0, or amounts; classes are as
    many as the largest label says, or as an array `classes` names. Images of bytes have the known range 0..255 and are
    scaled by default, other values z-scored, unless the file says itself what it is scaled by, as parts do. An array
    called sample_weight, or as --sample-weight says, weighs each training example. Where nothing is dealt out, one part
    may be missing: x_test and y_test are what a client holds out of its own, and at the server the test set.
    """
    path, name = path_of(config), config.sample_weight or USUAL
    arrays = read_npz(path, name, amounts=True) if config.deals else _whole(_own_arrays(path, name), name)
    if config.deals and name not in arrays and config.sample_weight not in ("", IGNORED):
        raise UserError(f"--sample-weight {name}: {path} has no array of this name beside {', '.join(KEYS)}")
    x, is_bytes = arrays["x_train"], arrays["x_train"].dtype == np.uint8
    train, test = _targets(config, path, arrays)
    normaliser = normaliser_of(arrays, path, x.shape)
    return ArraySource(
        path.stem,
        (x, train.positions),
        (arrays["x_test"], test.positions),
        train.names,
        provenance=f"the user's own file {path}",
        input_shape=(*x.shape[1:], 1) if x.ndim == 3 and is_bytes else x.shape[1:],
        default_normaliser=normaliser.name if normaliser else "scale" if is_bytes else "zscore",
        known_range=(0.0, 255.0) if is_bytes else None,
        normaliser=normaliser,
        sample_weight=arrays.get(name),
        targets=None if train.numbers is None else (train.numbers, test.numbers),
        held_out=arrays.get(HELD_OUT),
        chosen={"labels": train.said} if train.said else {},
    )


HELD_OUT = "held_out"


def _whole(arrays: Arrays, weights: str) -> Arrays:
    """A file that is not dealt out: all of its rows for training, which are held out, and those for a central test."""
    count, tests = len(arrays["x_train"]), len(arrays["x_test"])
    if count and tests:
        both = {f"{side}_train": np.concatenate([arrays[f"{side}_train"], arrays[f"{side}_test"]]) for side in "xy"}
        if weights in arrays:  # of rows that are held out nobody asks what they weigh
            both[weights] = np.concatenate([arrays[weights], np.ones(tests)])
        return {**arrays, **both, HELD_OUT: np.arange(count, count + tests)}
    own = "train" if count else "test"
    return arrays | {f"{side}_{part}": arrays[f"{side}_{own}"] for side in "xy" for part in ("train", "test")}


def _targets(config: Config, path: Path, arrays: Arrays) -> tuple[Targets, Targets]:
    """What is learned of the training examples, and of the test examples. Raises UserError."""
    count, y = len(arrays["y_train"]), np.concatenate([arrays["y_train"], arrays["y_test"]])
    whose = f"the labels in {path}"
    if config.task == "regression" or y.dtype.kind == "f":
        if y.dtype.kind == "f" and not config.task and (y == np.rint(y)).all():
            key = "y_train" if arrays["y_train"].dtype.kind == "f" else "y_test"
            raise UserError(
                f"{path}: {key} must be integer labels, not {y.dtype}; --task regression takes them for amounts"
            )
        found = targets_of(y, config.task, whose)
        numbers = found.numbers
        return (
            Targets(found.positions[:count], found.names, numbers[:count], found.said),
            Targets(found.positions[count:], found.names, numbers[count:]),
        )
    known = names_in(config.classes, "classes")
    names = known or ([str(name) for name in arrays[CLASSES].ravel()] if CLASSES in arrays else None)
    highest = int(y.max()) if len(y) else 0
    if names and highest >= len(names):
        whose = f"--classes names {len(names)}" if known else f"its array {CLASSES} names {len(names)} classes, from 0"
        raise UserError(f"{path} has the label {highest}, and {whose}")
    if highest >= MOST_CLASSES:
        raise UserError(
            f"{path} has the label {highest}; labels number the classes from 0, of which there may be {MOST_CLASSES}: "
            "number them anew (np.unique with return_inverse=True)"
        )
    names = tuple(names or map(str, range(highest + 1)))
    return Targets(arrays["y_train"], names), Targets(arrays["y_test"], names)


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


def _own_arrays(path: Path, weights: str) -> Arrays:
    """The arrays of a client's own file, or of the server's beside it: training or test examples may be missing."""
    try:
        with np.load(path, allow_pickle=False) as file:
            there = [key for key in KEYS if key in file.files]
    except (*DAMAGED, TypeError):
        there = []  # which is said below
    keys = there if there in ([*KEYS[:2]], [*KEYS[2:]]) else KEYS
    arrays = read_npz(path, weights, keys, amounts=True)
    for key in KEYS:
        if key not in arrays:
            arrays[key] = arrays[f"{key[0]}_{'test' if key.endswith('train') else 'train'}"][:0]
    return arrays


def read_npz(path: Path, weights: str = USUAL, keys: Sequence[str] = KEYS, amounts: bool = False) -> Arrays:
    """The arrays `keys` of the file, x and y by turns, those that say more of them, and `weights` if it is there.

    Raises UserError where the file is missing, damaged, empty, or holds other keys; unless `amounts` may be learned,
    for labels that are no integers.
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
    except DAMAGED as error:
        raise UserError(f"{path} is damaged, or no .npz file of plain arrays ({error})") from None
    xs, ys = keys[::2], keys[1::2]
    if any(arrays[key].ndim == 0 for key in keys) or not len(arrays[xs[0]]):
        raise UserError(f"{path} is empty: {xs[0]} must hold one example at least")
    if arrays[xs[0]].ndim < 2 or not np.issubdtype(arrays[xs[0]].dtype, np.number):
        raise UserError(f"{path}: {xs[0]} must be numbers of shape (examples, ...)")
    for key in ys:
        if arrays[key].dtype.kind not in ("iuf" if amounts else "iu"):
            raise UserError(f"{path}: {key} must be integer labels, not {arrays[key].dtype}")
        if arrays[key].shape[1:] == (1,):  # a column, as Keras' own sets have it
            arrays[key] = arrays[key].reshape(-1)
    return arrays
