"""Client ids as people write them: 3, or 0-9, or 0,2,5."""

from collections.abc import Iterable

MAX_CIDS = 1_000_000

ALL = "all"
"""In the place of a cid: the examples of all clients together."""


def parse_cids(text: str) -> list[int]:
    """The client ids that a text names, ascending. Raises ValueError for what names none."""
    ends = [[int(end) for end in part.split("-")] for part in text.split(",")]
    if not all(len(part) <= 2 and 0 <= part[0] <= part[-1] < MAX_CIDS for part in ends):
        raise ValueError(f"'{text}' names no clients")
    return sorted({cid for part in ends for cid in range(part[0], part[-1] + 1)})


def cids_text(cids: Iterable[int]) -> str:
    """The shortest text that names these: 0-3,7."""
    runs: list[list[int]] = []
    for cid in sorted(cids):
        if runs and cid == runs[-1][1] + 1:
            runs[-1][1] = cid
        else:
            runs.append([cid, cid])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
