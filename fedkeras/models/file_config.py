"""What a model file says of itself, as JSON: nothing is built, imported or run to find out."""

import json
import zipfile
from pathlib import Path
from typing import NamedTuple

import h5py

from fedkeras.errors import UserError

SUFFIXES = (".keras", ".h5")


class FileConfig(NamedTuple):
    """`model` is Keras' serialised model; `training` what it was compiled with, as Keras wrote it, None if it was not.

    A legacy file's `training` has `optimizer_config` where a .keras file's has `optimizer`.
    """

    model: dict
    training: dict | None


def read_config(path: str | Path) -> FileConfig:
    """Read both from a .keras or .h5 file. Raises UserError in one line."""
    path = Path(path)
    check_suffix(path)
    if not path.is_file():
        raise UserError(f"there is no model file {path}")
    try:
        model, training = (_of_keras if path.suffix == ".keras" else _of_h5)(path)
    except (zipfile.BadZipFile, KeyError, OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read the model file {path}: {first_line(error)}") from None
    if model is None:
        raise UserError(f"{path} holds weights and no model; save it with model.save")
    if not isinstance(model, dict) or not isinstance(training, dict | None):
        raise UserError(f"cannot read the model file {path}: its configuration is no model's")
    return FileConfig(model, training)


def check_suffix(path: Path) -> None:
    """Raise UserError unless the name ends as a model file's."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path} is not a model file: its name must end in {' or '.join(SUFFIXES)}")


def first_line(error: Exception) -> str:
    """An exception's first line that says something."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _of_keras(path: Path) -> tuple:
    with zipfile.ZipFile(path) as archive:
        model = json.loads(archive.read("config.json"))
    return model, model.get("compile_config") if isinstance(model, dict) else None


def _of_h5(path: Path) -> tuple:
    with h5py.File(path) as file:
        return tuple(json.loads(file.attrs.get(name, "null")) for name in ("model_config", "training_config"))
