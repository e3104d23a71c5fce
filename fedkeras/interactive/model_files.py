"""The model files that are offered: those in the folder `model`, and in the working directory."""

from pathlib import Path

from fedkeras.errors import UserError
from fedkeras.models.file_info import SUFFIXES, Shape, file_shapes, read_config
from fedkeras.models.requirements import require_trainable_file

FOLDER = "model"


def found() -> list[str]:
    """Their paths, those of the folder first, each in the order of names."""
    places = [Path(FOLDER), Path()]
    return [
        path.as_posix()
        for place in places
        if place.is_dir()
        for path in sorted(place.iterdir())
        if path.suffix in SUFFIXES and path.is_file()
    ]


def is_usable(path: str) -> bool:
    """Whether its model can be trained here."""
    try:
        require_trainable_file(path)
    except UserError:  # the list says why
        return False
    return True


def described(path: str) -> str:
    """What a model takes and gives, or why it cannot be used, in a few words."""
    try:
        require_trainable_file(path)
        shapes = file_shapes(path)
    except UserError as error:
        return f"cannot be used: {error}"
    known = [f"{word} {_shown(shape)}" for word, shape in zip(("takes", "gives"), shapes, strict=True) if shape]
    own = compiled_optimizer(path)
    return ", ".join([*known, f"compiled with {own}" if own else "not compiled"])


def compiled_optimizer(path: str) -> str:
    """The name of the optimizer that the file's model was compiled with; empty if it was not. Raises UserError."""
    training = read_config(path).training or {}
    optimizer = training.get("optimizer") or training.get("optimizer_config")
    if isinstance(optimizer, dict):
        optimizer = optimizer.get("class_name")
    return optimizer.rpartition(">")[2] if isinstance(optimizer, str) else ""


def _shown(shape: Shape) -> str:
    return " x ".join("any" if size is None else str(size) for size in shape)
