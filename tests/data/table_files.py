"""Files of tables as tests write them, and what is read of them."""

from pathlib import Path

import numpy as np
import openpyxl

from fedkeras.data.readers import tables
from fedkeras.data.readers.numerals import Marks


def read_table(folder: Path, targets: bool = False, **flags: str) -> np.ndarray:
    return tables.read_table(folder, targets, Marks(**flags)).rows


def read_xy(x: Path, y: Path, **flags: str) -> list[np.ndarray]:
    return [table.rows for table in tables.read_xy(x, y, Marks(**flags))]


def sheet(path: Path, *table: list) -> None:
    path.parent.mkdir(exist_ok=True)
    book = openpyxl.Workbook()
    for row in table:
        book.active.append(row)
    book.create_sheet("another").append(["of", "no", "interest"])
    book.save(path)


def text(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def npz(path: Path, compressed: bool = False, **arrays: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    (np.savez_compressed if compressed else np.savez)(path, **arrays)


def notes(folder: Path, targets: bool = False) -> dict[str, str]:
    """What was decided about the files of a folder."""
    return dict(tables.read_table(folder, targets).notes)
