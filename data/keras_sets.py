"""The data sets that Keras brings, by name: `--dataset keras:fashion_mnist`; downloaded and kept by Keras itself.

Those of images; the others are text, or have targets that are no classes.
"""

import importlib
import os
from pathlib import Path

import numpy as np

from fedkeras.config import Config
from fedkeras.data.readers.download import say
from fedkeras.data.source import ArraySource
from fedkeras.errors import UserError, reason_of

SETS = {"mnist": 10, "fashion_mnist": 10, "cifar10": 10, "cifar100": 100}
"""Classes by name."""

FILES = {
    "mnist": ("mnist.npz", 11),
    "fashion_mnist": ("fashion-mnist", 31),
    "cifar10": ("cifar-10-batches-py-target", 170),
    "cifar100": ("cifar-100-python-target", 169),
}
"""What Keras keeps in its folder, and the megabytes of its download, by name."""


def load(config: Config) -> ArraySource:
    """The set that `config.dataset` names after `keras:`. Raises UserError for another, or where it cannot be had."""
    name = config.dataset.partition(":")[2]
    if name not in SETS:
        raise UserError(f"--dataset is '{config.dataset}'; of Keras' sets there are: {', '.join(SETS)}")
    _say_what_is_downloaded(name)
    try:
        # By name: this package does without TensorFlow, unless somebody asks for Keras' own sets.
        (x, y), (x_test, y_test) = importlib.import_module(f"keras.datasets.{name}").load_data()
    except Exception as error:  # whatever Keras and its download raise
        raise UserError(
            f"--dataset {config.dataset}: Keras cannot load or download it ({reason_of(error)[:200]})"
        ) from error
    shape = x.shape[1:] if x.ndim == 4 else (*x.shape[1:], 1)
    return ArraySource(
        name,
        (x, np.ravel(y)),
        (x_test, np.ravel(y_test)),
        [str(number) for number in range(SETS[name])],
        provenance=f"keras.datasets.{name}; see keras.io/api/datasets",
        input_shape=shape,
        default_normaliser="scale",
        known_range=(0.0, 255.0),
    )


def _say_what_is_downloaded(name: str) -> None:
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets"
    file, megabytes = FILES[name]
    if not (home / file).exists():
        say(name, megabytes, home, f"--dataset keras:{name} takes no --data-dir, and Keras has not got it yet")
