"""Model files: `.keras`, and the older `.h5`, written atomically and read without running code from them."""

import json
import tempfile
import zipfile
from pathlib import Path

import h5py
import keras

from fedkeras.errors import UserError

SUFFIXES = (".keras", ".h5")


def save(model: keras.Model, path: str | Path) -> None:
    """Write `model` to `path` (.keras or .h5): a reader sees the old file or the new one, never half of one."""
    path = Path(path)
    _check_suffix(path)
    # In a folder of its own beside the target, so that the rename stays on one file system and nothing is left behind.
    with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent) as folder:
        partial = Path(folder) / path.name
        model.save(partial)
        partial.replace(path)


def load(path: str | Path) -> keras.Model:
    """Read a model from `path` (.keras or .h5) and compile it with its own loss, if it had one.

    Its optimizer and metrics are left behind: training here brings its own, and old files that name theirs in ways
    Keras 3 no longer reads still load. Lambda layers are refused, for they would run code that came with the file.
    Raises UserError in one line.
    """
    path = Path(path)
    _check_suffix(path)
    if not path.is_file():
        raise UserError(f"there is no model file {path}")
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        loss = keras.losses.get(_own_loss(path))
    except (ValueError, TypeError, KeyError, OSError, ImportError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot read the model file {path}: {_first_line(error)}") from error
    if loss is not None:
        model.compile(optimizer=None, loss=loss)
    return model


def _own_loss(path: Path) -> object:
    """The loss the file's model was compiled with, a name or Keras' serialised form; None if it was not."""
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            compiled = json.loads(archive.read("config.json")).get("compile_config")
    else:
        with h5py.File(path) as file:
            compiled = json.loads(file.attrs.get("training_config", "null"))
    return compiled.get("loss") if compiled else None


def _check_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path} is not a model file: its name must end in {' or '.join(SUFFIXES)}")


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
