"""The clients' parts as files: for people who are to hold them on machines of their own."""

import io
from pathlib import Path

import numpy as np

from fedkeras.atomic import replace_file
from fedkeras.config import Config
from fedkeras.data.catalogue import open_source
from fedkeras.data.clients import own_rows, pooled_normaliser
from fedkeras.data.npz import CLASSES, normaliser_arrays
from fedkeras.data.source import Examples, Source
from fedkeras.errors import UserError

TEST = "test.npz"
"""The central test set's file: x_test and y_test, classes, and what examples are scaled by."""


def write_parts(config: Config, folder: Path) -> list[str]:
    """Write part-N.npz for each client, with what --dataset FILE.npz wants, and test.npz; what is in them, in lines.

    Examples are not scaled. Each file says what they are to be scaled by, which is learned from all parts' training
    rows where rows decide it: so models of different parts take their examples alike, and can be combined. x_test and
    y_test of a part are what the client holds out of it; `classes` are those of all, so that a model of any part fits
    the others. Raises UserError if one of the files is there already, or the disk refuses.
    """
    source, normaliser = open_source(config), pooled_normaliser(config)
    names = {} if source.targets is not None else {CLASSES: np.array(source.classes, dtype=np.str_)}
    common = {**names, **normaliser_arrays(normaliser)}
    digits = len(str(config.num_partitions - 1))
    paths = [folder / f"part-{cid:0{digits}d}.npz" for cid in range(config.num_partitions)]
    for path in (*paths, folder / TEST):
        if path.exists():
            raise UserError(f"{path} is there already: give another folder, or delete it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror or error}") from error
    lines = []
    for cid, path in enumerate(paths):
        train, test = (source.examples(rows) for rows in own_rows(config, cid))
        content = {**_arrays(source, train, "train"), **_arrays(source, test, "test"), **common}
        if source.sample_weight is not None:
            content["sample_weight"] = np.asarray(source.sample_weight)[own_rows(config, cid)[0]]
        _write(path, content)
        lines.append(f"{path}: {len(train)} training and {len(test)} test examples of {_labels_in(source, train)}")
    test = source.test()
    if len(test):
        _write(folder / TEST, {**_arrays(source, test, "test"), **common})
        lines.append(f"{folder / TEST}: the central test set, {len(test)} examples")
    lines.append(f"scaling, stated in each file: {normaliser.said}")
    return lines


def _arrays(source: Source, examples: Examples, name: str) -> dict[str, np.ndarray]:
    """Bytes where the format is bytes."""
    x = examples.x
    if source.known_range == (0.0, 255.0) and np.array_equal(x, x.astype(np.uint8)):
        x = x.astype(np.uint8)
    y = examples.y if source.targets is not None else examples.y.astype(np.int64)
    return {f"x_{name}": x, f"y_{name}": y}


def _labels_in(source: Source, examples: Examples) -> str:
    if source.targets is not None:
        return f"amounts from {examples.y.min():.6g} to {examples.y.max():.6g}"
    labels = np.unique(examples.y)
    if len(labels) == len(source.classes):
        return f"all {len(labels)} classes"
    return f"{len(labels)} of {len(source.classes)} classes"


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    replace_file(path, content.getbuffer())
