"""What all clients share before they train: how examples are scaled, which number each class has and what it weighs.

One `Preprocessing` is made of what the clients say of their data (`agreement`); all get it, and it lies beside each
model as normaliser.npz, labels.json, columns.json and class_weights.json.
"""

import dataclasses
import functools
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedkeras import data
from fedkeras.atomic import replace_file
from fedkeras.config import Config
from fedkeras.data import columns, labels, scaling
from fedkeras.data.columns import UNNAMED, Columns
from fedkeras.data.labels import Labels
from fedkeras.data.normalise import Normaliser, checked_normaliser
from fedkeras.errors import RunFailed, UserError
from fedkeras.provisioning.shards import Tables


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """`labels` is None where the targets are no classes; `folds` are k-fold's normalisers, one a fold.

    `columns` are in the order in which the model takes them. `class_weights` are by class number, 0 for a class that
    nobody has; None where classes are not weighted.
    """

    normaliser: Normaliser
    labels: Labels | None
    folds: tuple[Normaliser, ...] = ()
    columns: Columns = UNNAMED
    class_weights: tuple[float, ...] | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """The normaliser's numbers, float64; the folds' stacked, (folds, ...)."""
        own = {"shift": np.asarray(self.normaliser.shift), "spread": np.asarray(self.normaliser.spread)}
        if self.folds:
            own |= {f"fold_{name}": np.stack([getattr(fold, name) for fold in self.folds]) for name in own}
        return own

    def text(self) -> str:
        """The rest, as JSON."""
        own = self.labels.to_dict() if self.labels else {}
        own |= {} if self.class_weights is None else {"class_weights": self.class_weights}
        return json.dumps({"normaliser": self.normaliser.name, "columns": self.columns.to_dict(), **own})

    @classmethod
    def from_parts(cls, text: str, arrays: Mapping[str, np.ndarray]) -> "Preprocessing":
        """The inverse of `text` and `arrays`. Raises ValueError."""
        table = json.loads(text)
        name, found = str(table["normaliser"]), labels.from_dict(table) if "classes" in table else None
        folds = ()
        if "fold_shift" in arrays:
            pairs = zip(arrays["fold_shift"], arrays["fold_spread"], strict=True)
            folds = tuple(checked_normaliser(name, shift, spread) for shift, spread in pairs)
        names = columns.from_dict(table.get("columns", {}))
        weights = _checked_weights(table["class_weights"]) if "class_weights" in table else None
        return cls(checked_normaliser(name, arrays["shift"], arrays["spread"]), found, folds, names, weights)

    def to_json(self) -> str:
        """Text and arrays in one: small enough to be a value of a message's configuration."""
        return json.dumps([json.loads(self.text()), {name: array.tolist() for name, array in self.arrays().items()}])

    @classmethod
    @functools.lru_cache(maxsize=16)
    def from_json(cls, text: str) -> "Preprocessing":
        """The inverse of `to_json`, one object for equal texts. Raises ValueError."""
        try:
            table, arrays = json.loads(text)
            return cls.from_parts(json.dumps(table), {name: np.array(array) for name, array in arrays.items()})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"what clients share cannot be read: {error}") from error

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
        """Write normaliser.npz beside the model, and labels, columns and class_weights.json where there are such.

        Raises UserError.
        """
        buffer = io.BytesIO()
        np.savez(buffer, name=np.array(self.normaliser.name), **self.arrays())
        replace_file(folder / "normaliser.npz", buffer.getvalue())
        if self.labels:
            replace_file(folder / "labels.json", f"{json.dumps(self.labels.to_dict(), indent=2)}\n".encode())
        if names := self.columns.to_dict():
            replace_file(folder / "columns.json", f"{json.dumps(names, indent=2)}\n".encode())
        if self.class_weights is not None:
            table = {"class_weights": self.class_weights}
            replace_file(folder / "class_weights.json", f"{json.dumps(table, indent=2)}\n".encode())

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
            for name in ("labels.json", "class_weights.json"):
                if (folder / name).exists():
                    table |= json.loads((folder / name).read_text())
            if (folder / "columns.json").exists():
                table["columns"] = json.loads((folder / "columns.json").read_text())
            return cls.from_parts(json.dumps(table), arrays)
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise UserError(f"{path}, or what lies beside it as .json, cannot be read: {error}") from error


def check_test(test: Tables, preprocessing: Preprocessing) -> None:
    """Raise RunFailed if the test set has a label that no client has."""
    if preprocessing.labels and "y" in test:
        try:
            preprocessing.labels.encode(np.asarray(test["y"]))
        except UserError as error:
            raise RunFailed(f"Y_test does not fit the clients' labels: {error}") from error


def own_normaliser_of(config: Config, preprocessing: Preprocessing | None) -> Normaliser:
    """By what a client scales its examples of the data set: what the format says, else what the server has merged.

    Raises UserError where the server has said nothing, or something that is not of this data set.
    """
    source = data.open_source(config)
    fixed = scaling.fixed_normaliser(source, config)
    if fixed is not None:
        return fixed
    name, shape = scaling.normaliser_name(source, config), scaling.shape_of_statistics(source)
    if preprocessing is None or preprocessing.normaliser.name != name:
        raise UserError(f"this client's {source.name} is scaled by {name}, for which the server has sent no statistics")
    if preprocessing.normaliser.shift.shape != shape:
        raise UserError(
            f"the server's statistics are of shape {preprocessing.normaliser.shift.shape}, and those of this client's "
            f"{source.name} would be {shape}: is it the same data set?"
        )
    return preprocessing.normaliser


def _checked_weights(weights: Sequence[float]) -> tuple[float, ...]:
    if not all(type(weight) in (int, float) and math.isfinite(weight) and weight >= 0 for weight in weights):
        raise ValueError("class weights must be finite numbers, 0 or more")
    return tuple(map(float, weights))
