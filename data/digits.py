"""The embedded default: 1,797 real handwritten digits of 8x8 pixels, shipped with scikit-learn.

Alpaydin and Kaynak, "Cascading classifiers", Kybernetika 34 (1998): the test part of UCI's "Optical Recognition of
Handwritten Digits". A pixel counts the ink in a 4x4 block of the scan, 0 to 16.
"""

import gzip
import importlib.util
from pathlib import Path

import numpy as np

from fedkeras import stratified
from fedkeras.config import Config
from fedkeras.data.source import ArraySource
from fedkeras.errors import UserError
from fedkeras.randomness import generator

TEST_SIZE = 360


def load(config: Config) -> ArraySource:
    """1,437 training and 360 test images; the test set is stratified and the same for every seed."""
    lines = gzip.decompress(_shipped_file().read_bytes()).decode().splitlines()
    table = np.loadtxt(lines, delimiter=",", dtype=np.uint8)
    x, y = table[:, :-1].reshape(-1, 8, 8, 1), table[:, -1]
    # seed 0 and not the config's: accuracies of different seeds are measured on the same images
    held_out = stratified.sample(len(y), TEST_SIZE, generator(0, "digits test"), y)
    train = np.setdiff1d(np.arange(len(y)), held_out)
    return ArraySource(
        "digits",
        (x[train], y[train]),
        (x[held_out], y[held_out]),
        [str(digit) for digit in range(10)],
        provenance="UCI Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998; CC BY 4.0), "
        "1,797 images as shipped by scikit-learn",
        default_normaliser="scale",
        known_range=(0.0, 16.0),
    )


def _shipped_file() -> Path:
    # found without importing it: `import sklearn.datasets` takes over a second, four times in a demo
    spec = importlib.util.find_spec("sklearn")
    path = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz" if spec and spec.origin else None
    if path is None or not path.is_file():
        raise UserError("--dataset digits: scikit-learn's digits.csv.gz is not here; run `pip install scikit-learn`")
    return path
