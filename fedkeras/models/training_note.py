"""What a .keras file says of the training that made it: on how many examples, and by what these were scaled.

Keras writes a small table, metadata.json, into each file and does not read it again. The note is one more entry of it,
so the file is a .keras file as any other. It is lost when somebody saves the model anew by Keras' own `save`.
"""

import json
import shutil
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

from fedkeras import atomic
from fedkeras.errors import UserError
from fedkeras.models.file_check import METADATA
from fedkeras.models.file_info import contents

KEY = "fedkeras"
MOST_EXAMPLES = 10**12

Numbers = float | list[float]


@dataclass(frozen=True)
class TrainingNote:
    """`examples` were trained on; a model takes (x - shift) / spread, in numbers for all values or one a feature."""

    examples: int
    normaliser: str
    shift: Numbers
    spread: Numbers


def write_note(path: Path, note: TrainingNote) -> None:
    """Put the note into a .keras file in one step. Raises UserError if the disk refuses."""
    try:
        with atomic.new_file(path) as partial, zipfile.ZipFile(path) as old, zipfile.ZipFile(partial, "w") as new:
            for member in old.infolist():
                if member.filename == METADATA:
                    table = json.loads(old.read(member)) | {KEY: asdict(note)}
                    new.writestr(member, json.dumps(table))
                    continue
                with old.open(member) as source, new.open(member, "w", force_zip64=True) as target:
                    shutil.copyfileobj(source, target)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def read_note(path: Path) -> TrainingNote | None:
    """The file's note; None where it has none. What it says is the claim of whoever made the file.

    Raises UserError for a file that may not be read, and for a note that is none.
    """
    if path.suffix != ".keras":
        return None
    contents(path)
    try:
        with zipfile.ZipFile(path) as archive:
            table = json.loads(archive.read(METADATA)) if METADATA in archive.namelist() else {}
        found = table.get(KEY) if isinstance(table, dict) else None
        if found is None:
            return None
        note = TrainingNote(**{name: found[name] for name in TrainingNote.__dataclass_fields__})
        if type(note.examples) is not int or not 0 < note.examples <= MOST_EXAMPLES or type(note.normaliser) is not str:
            raise ValueError("it has no number of examples, or no scaling")
    except (zipfile.BadZipFile, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} has a note of its training that cannot be read: {error}") from None
    return note
