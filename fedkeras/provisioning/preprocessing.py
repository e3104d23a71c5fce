"""What all clients share before they train: how examples are scaled, and which number each class has.

Each client describes its data, never a row of them; the server merges the descriptions, in the order of cid, into one
`Preprocessing` that all clients get and that lies beside each model as normaliser.npz, labels.json and columns.json.
"""

import dataclasses
import functools
import hashlib
import io
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app import RecordDict

from fedkeras.atomic import replace_file
from fedkeras.config import Config
from fedkeras.data import columns, labels, statistics
from fedkeras.data.columns import UNNAMED, Columns
from fedkeras.data.labels import Labels
from fedkeras.data.normalise import Normaliser, normaliser_from
from fedkeras.data.statistics import Statistics
from fedkeras.errors import RunFailed, UserError
from fedkeras.federation.dispatcher import ClientRefused
from fedkeras.provisioning.protocol import arrays_of_answer, value_of
from fedkeras.provisioning.shards import Tables

log = logging.getLogger("fedkeras")


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """`labels` is None where the targets are no classes; `folds` are k-fold's normalisers, one a fold.

    `columns` are in the order in which the model takes them.
    """

    normaliser: Normaliser
    labels: Labels | None
    folds: tuple[Normaliser, ...] = ()
    columns: Columns = UNNAMED

    def arrays(self) -> dict[str, np.ndarray]:
        """The normaliser's numbers, float64; the folds' stacked, (folds, ...)."""
        own = {"shift": np.asarray(self.normaliser.shift), "spread": np.asarray(self.normaliser.spread)}
        if self.folds:
            own |= {f"fold_{name}": np.stack([getattr(fold, name) for fold in self.folds]) for name in own}
        return own

    def text(self) -> str:
        """The rest, as JSON."""
        own = self.labels.to_dict() if self.labels else {}
        return json.dumps({"normaliser": self.normaliser.name, "columns": self.columns.to_dict(), **own})

    @classmethod
    def from_parts(cls, text: str, arrays: Mapping[str, np.ndarray]) -> "Preprocessing":
        """The inverse of `text` and `arrays`. Raises ValueError."""
        table = json.loads(text)
        name, found = str(table["normaliser"]), labels.from_dict(table) if "classes" in table else None
        folds = ()
        if "fold_shift" in arrays:
            pairs = zip(arrays["fold_shift"], arrays["fold_spread"], strict=True)
            folds = tuple(_normaliser(name, shift, spread) for shift, spread in pairs)
        names = columns.from_dict(table.get("columns", {}))
        return cls(_normaliser(name, arrays["shift"], arrays["spread"]), found, folds, names)

    @property
    def digest(self) -> str:
        """SHA-256 as hexadecimal digits: two preprocessings with one digest are the same."""
        content = b"".join(np.ascontiguousarray(array, np.float64).tobytes() for array in self.arrays().values())
        return hashlib.sha256(self.text().encode() + content).hexdigest()

    def of_fold(self, number: int) -> "Preprocessing":
        """That of fold `number` (from 1): its own normaliser, which has not seen the rows that the fold holds out.

        0, or without folds' own: that of all rows.
        """
        own = self.folds[number - 1] if self.folds and number else self.normaliser
        return dataclasses.replace(self, normaliser=own, folds=())

    def save(self, folder: Path) -> None:
        """Write normaliser.npz, labels.json and columns.json beside the model. Raises UserError."""
        buffer = io.BytesIO()
        np.savez(buffer, name=np.array(self.normaliser.name), **self.arrays())
        replace_file(folder / "normaliser.npz", buffer.getvalue())
        if self.labels:
            replace_file(folder / "labels.json", f"{json.dumps(self.labels.to_dict(), indent=2)}\n".encode())
        if names := self.columns.to_dict():
            replace_file(folder / "columns.json", f"{json.dumps(names, indent=2)}\n".encode())

    @classmethod
    def load(cls, folder: Path) -> "Preprocessing | None":
        """What `save` wrote; None if there is nothing. Raises UserError for files that cannot be read."""
        path = folder / "normaliser.npz"
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as saved:
                table = {"normaliser": str(saved["name"])}
                arrays = {key: saved[key] for key in saved.files if key != "name"}
            if (folder / "labels.json").exists():
                table |= json.loads((folder / "labels.json").read_text())
            if (folder / "columns.json").exists():
                table["columns"] = json.loads((folder / "columns.json").read_text())
            return cls.from_parts(json.dumps(table), arrays)
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise UserError(f"{path}, or labels.json or columns.json beside it, cannot be read: {error}") from error


@dataclass(frozen=True)
class DataDescription:
    """What a client says of its data: `rows` that are trained on, and their statistics; with k-fold, of each part.

    `statistics` is empty where nothing is scaled; `labels` is None where the targets are no classes. `shape` is that of
    an example as it came.
    """

    rows: int
    statistics: list[Statistics]
    labels: Labels | None
    columns: Columns = UNNAMED
    shape: tuple[int, ...] = ()


def description_in(answer: RecordDict) -> DataDescription:
    """A client's answer to `describe`. Raises ClientRefused."""
    arrays, classes = arrays_of_answer(answer), value_of(answer, "classes", str)
    rows = value_of(answer, "rows", int)
    try:
        found = labels.from_dict(json.loads(classes)) if classes else None
        names, shape = columns.from_dict(json.loads(value_of(answer, "columns", str))), value_of(answer, "shape", list)
        return DataDescription(rows, _each_part(arrays), found, names, tuple(map(int, shape)))
    except (ValueError, AttributeError, RecursionError) as error:
        raise ClientRefused(f"describes its data wrongly: {error}") from error


def agree(config: Config, descriptions: Mapping[int, DataDescription], outputs: int | None) -> Preprocessing:
    """Merge the clients' descriptions of their data, by cid; `outputs` is the model's number of them, if known.

    Raises RunFailed where they do not fit together.
    """
    name = "none" if config.normaliser == "default" or config.data_source == "keras" else config.normaliser
    try:
        parts = _merged(config, [each.statistics for each in descriptions.values() if each.statistics])
        found = [each.labels for each in descriptions.values() if each.labels is not None]
        if found and len(found) < len(descriptions):
            raise UserError("the targets of some clients are classes, and those of others numbers")
        merged = labels.merge(*found, outputs=outputs) if found else None
        if merged and outputs and len(merged) > max(outputs, 2):
            known = labels.shown(merged.names)
            raise UserError(f"there are {len(merged)} classes ({known}), and the model has {outputs} outputs")
        for alike in labels.lookalikes(merged.names if merged else ()):
            log.warning("labels that look alike are classes of their own: %s", ", ".join(map(repr, alike)))
        if name != "none" and not parts:
            raise ValueError("no client sent statistics of its data")
        total = functools.reduce(statistics.merge, parts) if parts else None
        folds = ()
        if len(parts) > 1:  # a fold's training rows are all parts but the one that it holds out
            others = [[part for part in parts if part is not held_out] for held_out in parts]
            folds = tuple(normaliser_from(functools.reduce(statistics.merge, left), name) for left in others)
        return Preprocessing(normaliser_from(total, name), merged, folds)
    except (UserError, ValueError) as error:
        raise RunFailed(f"the clients' data do not fit together: {error}") from error


def check_test(test: Tables, preprocessing: Preprocessing) -> None:
    """Raise RunFailed if the test set has a label that no client has."""
    if preprocessing.labels and "y" in test:
        try:
            preprocessing.labels.encode(np.asarray(test["y"]))
        except UserError as error:
            raise RunFailed(f"Y_test does not fit the clients' labels: {error}") from error


def _normaliser(name: str, shift: np.ndarray, spread: np.ndarray) -> Normaliser:
    shift, spread = np.asarray(shift, np.float64), np.asarray(spread, np.float64)
    if shift.shape != spread.shape or not (np.isfinite(shift).all() and np.isfinite(spread).all() and spread.all()):
        raise ValueError("a normaliser's numbers must be finite, and its spread not 0")
    return Normaliser(name, shift, spread)


def _each_part(arrays: Mapping[str, np.ndarray]) -> list[Statistics]:
    """Statistics as a client sends them, stacked. Raises ValueError."""
    if len({array.shape[:1] for array in arrays.values()}) > 1 or any(not array.ndim for array in arrays.values()):
        raise ValueError("statistics are arrays of as many rows, a row a part")
    parts = max((len(array) for array in arrays.values()), default=0)
    return [statistics.from_dict({name: array[number] for name, array in arrays.items()}) for number in range(parts)]


def _merged(config: Config, sent: list[list[Statistics]]) -> list[Statistics]:
    """The first part of all clients, the second, and so on. Raises UserError."""
    wanted = config.folds if config.method == "kfold" else 1
    if any(len(parts) != wanted for parts in sent):
        raise UserError(f"a client sent statistics of other than {wanted} parts of its rows")
    return [functools.reduce(statistics.merge, parts) for parts in zip(*sent, strict=True)]
