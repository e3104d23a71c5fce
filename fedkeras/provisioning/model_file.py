"""The model file that a server hands out: its digest, the shapes it states, and the pieces in which it is sent."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedkeras.errors import UserError
from fedkeras.models.file_info import SUFFIXES, Shape, Shapes, file_shapes, input_shape
from fedkeras.models.requirements import require_trainable_file

PIECE_BYTES = 16 << 20


@dataclass(frozen=True)
class ModelFile:
    """A .keras or .h5 file as it was when the run began; `digest` is its SHA-256 as hexadecimal digits."""

    content: bytes
    suffix: str
    digest: str
    shapes: Shapes

    @property
    def outputs(self) -> int | None:
        """The number of outputs, if they stand in one row and the file says so."""
        gives = self.shapes.gives
        return gives[0] if gives is not None and len(gives) == 1 else None

    def check_takes(self, example: Shape) -> None:
        """Raise UserError if an example of this shape is none that the model takes, whatever its dimensions are."""
        input_shape(self.shapes.takes, example)

    def pieces(self) -> Iterator[tuple[int, np.ndarray]]:
        """(first byte, bytes as uint8), in order, of some megabytes each."""
        whole = np.frombuffer(self.content, np.uint8)
        for start in range(0, len(whole), PIECE_BYTES):
            yield start, whole[start : start + PIECE_BYTES]


def open_model_file(name: str) -> ModelFile:
    """The file that --model names. Raises UserError."""
    if not name.endswith(SUFFIXES):
        shown = f"'{name}'" if name else "not given"
        raise UserError(f"--data-source hands a model file out: --model must be a .keras or .h5 file, and is {shown}")
    path = Path(name).expanduser()
    shapes = file_shapes(path)
    try:
        require_trainable_file(path)
    except UserError as error:
        raise UserError(f"--model {name}: {error}") from None
    content = path.read_bytes()
    return ModelFile(content, path.suffix, hashlib.sha256(content).hexdigest(), shapes)
