"""Columns that belong together by name: in the files of a folder, in a test set, and with other clients."""

from collections.abc import Sequence

import numpy as np

Names = tuple[str, ...]
SHOWN = 3


def differing(names: Sequence[str], wanted: Sequence[str]) -> tuple[str, str] | None:
    """Those of `names` that are not among `wanted`, and the reverse, for a message; None where all can be matched.

    Names that come twice can be matched where they stand in the same order alone.
    """
    if tuple(names) == tuple(wanted):
        return None
    if sorted(names) == sorted(wanted):
        twice = next((name for name in names if list(names).count(name) > 1), None)
        return None if twice is None else (f"'{twice}' twice", "it elsewhere")
    own, other = ([name for name in some if name not in others] for some, others in ((names, wanted), (wanted, names)))
    if not own and not other:
        return "of some name more often", "it less often"
    return _shown(own), _shown(other)


def order_of(names: Names | None, wanted: Names | None) -> np.ndarray | None:
    """Where each of `wanted` stands among `names`, (columns,); None where nothing needs to be moved.

    That is so too where either has no names: columns without names stand where they do.
    """
    if names is None or wanted is None or names == wanted:
        return None
    place = {name: i for i, name in enumerate(names)}
    return np.array([place[name] for name in wanted])


def _shown(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:SHOWN])
    return (shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")) or "none of it"
