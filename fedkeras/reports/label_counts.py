"""partitions.json: how many examples of each label each client holds, as the server's copy of the data is divided."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedkeras.errors import UserError
from fedkeras.reports.atomic import replace_file


@dataclass(frozen=True)
class LabelCounts:
    """counts: (clients, classes), training and test part together; `clients` and `classes` name rows and columns."""

    scheme: str
    clients: tuple[str, ...]
    classes: tuple[str, ...]
    counts: np.ndarray


def write_label_counts(
    path: Path, scheme: str, classes: Sequence[str], counts: Mapping[int | str, Sequence[int]]
) -> None:
    """Write {"scheme": "...", "classes": [...], "clients": {cid: [examples of each class]}}.

    Raises UserError if the disk refuses.
    """
    names = json.dumps([str(name) for name in classes])
    lines = ",\n".join(f"    {json.dumps(str(cid))}: {json.dumps([*map(int, row)])}" for cid, row in counts.items())
    # By hand, for a client a line: json.dumps would give each number a line of its own
    text = f'{{\n  "scheme": {json.dumps(scheme)},\n  "classes": {names},\n  "clients": {{\n{lines}\n  }}\n}}\n'
    replace_file(path, text.encode())


def read_label_counts(path: Path) -> LabelCounts | None:
    """The file's content; None if there is none. Raises UserError if it is damaged."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        clients, classes = table["clients"], tuple(map(str, table["classes"]))
        counts = np.array([[int(number) for number in row] for row in clients.values()], np.int64)
        if counts.shape != (len(clients), len(classes)) or not counts.size or counts.min() < 0:
            raise ValueError("its counts do not fit its classes")
        return LabelCounts(str(table["scheme"]), tuple(clients), classes, counts)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged: {' '.join(str(error).split())[:120]}") from error
