"""One order of columns for all clients: each client puts its own into it, by their names.

It is that of the server's own table, X_test where clients have data of their own; else that of the first client, by
cid, whose columns have names. A client whose files have no names is taken as it is, and said.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from fedkeras.data.columns import Columns, Names, check_same, order_of
from fedkeras.data.statistics import Statistics
from fedkeras.errors import UserError


def agree_on_columns(found: Mapping[int, Columns], own: Columns) -> tuple[Columns, dict[str, str]]:
    """The order, and what is to be said, by name; `found` are the clients' columns by cid, `own` the server's.

    Raises UserError where a client has other names.
    """
    wanted, whose, notes = {}, {}, {}
    for side in ("x", "y"):
        wanted[side], whose[side] = getattr(own, side), f"the server's {side.upper()}_test"
        for cid, columns in sorted(found.items()):
            if wanted[side] is None and getattr(columns, side):
                wanted[side], whose[side] = getattr(columns, side), f"client {cid}"
        for cid, columns in sorted(found.items()):
            check_same(
                Columns(**{side: getattr(columns, side)}), Columns(**{side: wanted[side]}), f"client {cid}", whose[side]
            )
        if wanted[side] and len(wanted[side]) > 1:
            title = f"{side.upper()}'s columns"
            moved = [cid for cid, one in sorted(found.items()) if getattr(one, side) not in (None, wanted[side])]
            bare = [cid for cid, one in sorted(found.items()) if getattr(one, side) is None]
            if moved:
                notes[title] = f"{_clients(moved)} put them into the order of {whose[side]}, by their names"
            if bare:
                notes[f"{title} without names"] = (
                    f"those of {_clients(bare)} are taken to have the order of {whose[side]}"
                )
    return Columns(**wanted), notes


def in_order(parts: Sequence[Statistics], names: Names | None, wanted: Names | None) -> list[Statistics]:
    """Statistics of a client's features in the order that all have. Raises UserError where they are of other features.

    That is so where a model takes an image, or a series, of which the columns are the numbers.
    """
    order = order_of(names, wanted)
    if order is None:
        return list(parts)
    if any(np.ndim(part.mean) and np.shape(part.mean) != order.shape for part in parts):
        raise UserError(
            "columns that a model takes as a series, and that are scaled, must stand in one order everywhere"
        )
    return [
        dataclasses.replace(part, **{name: getattr(part, name)[order] for name in ("mean", "m2", "low", "high")})
        if np.ndim(part.mean)
        else part
        for part in parts
    ]


def _clients(cids: Sequence[int]) -> str:
    shown = ", ".join(map(str, cids[:5])) + (f" and {len(cids) - 5} more" if len(cids) > 5 else "")
    return f"client{'s' if len(cids) > 1 else ''} {shown}"
