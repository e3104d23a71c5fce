"""Replace a file in one step, so that a reader or a `kill -9` finds the old content or the new, never a part."""

import os
from pathlib import Path

from fedkeras.errors import UserError


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` beside `path`, force it to the disk, and rename it into place.

    Raises UserError if the disk refuses; `path` is then as it was.
    """
    # One fixed name: what a killed process leaves behind is overwritten by the next, not piled up.
    beside = path.with_name(f".{path.name}.tmp")
    try:
        try:
            with beside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
