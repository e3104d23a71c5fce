"""What all clients agree upon before they train: how examples are scaled, and which number each class has."""

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data import labels
from data.labels import Labels
from data.normalise import Normaliser
from fedkeras.errors import UserError
from fedkeras.reports.atomic import replace_file


@dataclass(frozen=True, eq=False)
class Settlement:
    """`labels` is None where the targets are no classes; `folds` are k-fold's normalisers, one a fold."""

    normaliser: Normaliser
    labels: Labels | None
    folds: tuple[Normaliser, ...] = ()

    def arrays(self) -> dict[str, np.ndarray]:
        """The normaliser's numbers, float64; the folds' stacked, (folds, ...)."""
        own = {"shift": np.asarray(self.normaliser.shift), "spread": np.asarray(self.normaliser.spread)}
        if self.folds:
            own |= {f"fold_{name}": np.stack([getattr(fold, name) for fold in self.folds]) for name in own}
        return own

    def of_fold(self, number: int) -> "Settlement":
        """What fold `number` (from 1) goes by: its own normaliser, which has not seen the rows it holds out.

        0, or without folds' own: what all go by.
        """
        return Settlement(self.folds[number - 1] if self.folds and number else self.normaliser, self.labels)

    def text(self) -> str:
        """The rest, as JSON."""
        return json.dumps({"normaliser": self.normaliser.name, **(self.labels.to_dict() if self.labels else {})})

    @property
    def digest(self) -> str:
        """Two settlements with one digest are the same."""
        content = b"".join(np.ascontiguousarray(array, np.float64).tobytes() for array in self.arrays().values())
        return hashlib.sha256(self.text().encode() + content).hexdigest()


def from_parts(text: str, arrays: dict[str, np.ndarray]) -> Settlement:
    """The inverse of `text` and `arrays`. Raises ValueError."""
    table = json.loads(text)
    name, found = str(table["normaliser"]), labels.from_dict(table) if "classes" in table else None
    folds = ()
    if "fold_shift" in arrays:
        pairs = zip(arrays["fold_shift"], arrays["fold_spread"], strict=True)
        folds = tuple(_normaliser(name, shift, spread) for shift, spread in pairs)
    return Settlement(_normaliser(name, arrays["shift"], arrays["spread"]), found, folds)


def _normaliser(name: str, shift: np.ndarray, spread: np.ndarray) -> Normaliser:
    shift, spread = np.asarray(shift, np.float64), np.asarray(spread, np.float64)
    if shift.shape != spread.shape or not (np.isfinite(shift).all() and np.isfinite(spread).all() and spread.all()):
        raise ValueError("a normaliser's numbers must be finite, and its spread not 0")
    return Normaliser(name, shift, spread)


def save(settlement: Settlement, folder: Path) -> None:
    """Write normaliser.npz and labels.json beside the model. Raises UserError."""
    buffer = io.BytesIO()
    np.savez(buffer, name=np.array(settlement.normaliser.name), **settlement.arrays())
    replace_file(folder / "normaliser.npz", buffer.getvalue())
    if settlement.labels:
        replace_file(folder / "labels.json", f"{json.dumps(settlement.labels.to_dict(), indent=2)}\n".encode())


def load(folder: Path) -> Settlement | None:
    """What `save` wrote; None if there is nothing. Raises UserError for files that cannot be read."""
    path = folder / "normaliser.npz"
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as saved:
            table, arrays = (
                {"normaliser": str(saved["name"])},
                {key: saved[key] for key in saved.files if key != "name"},
            )
        if (folder / "labels.json").exists():
            table |= json.loads((folder / "labels.json").read_text())
        return from_parts(json.dumps(table), arrays)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(f"{path} or labels.json beside it cannot be read: {error}") from error
