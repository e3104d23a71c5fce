"""A job of a part that is not federated: one model, trained on one client's examples or on all, and its two files."""

from pathlib import Path

ALL = "all"
"""In the place of a client: the examples of all clients together."""
ROWS_A_ROUND = 2


def figures_path(folder: Path, who: str) -> Path:
    """What the job came to; there once it is done."""
    return folder / f"{who}.json"


def rounds_path(folder: Path, who: str) -> Path:
    """A history that grows by ROWS_A_ROUND while it is trained."""
    return folder / f"{who}.csv"
