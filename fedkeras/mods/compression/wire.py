"""The records of a compressed message: the arrays in their forms, and beside them how to read them.

A message to a client has, as "compression", `down` (the form of each array that it brings), `scales` (what the numbers
of each are multiplied by) and `up` (the form of each array that is to come back, or nothing); its reply has `scales`
of its own. With top-k the message also has `topk` (the share that is to come back), and both say which residuals are
meant (`fedkeras.mods.client_state`); the reply has a second record of arrays, the gaps between places.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from fedkeras.federation.records import of_kind, record, view
from fedkeras.learning.quantisation import Packed
from fedkeras.mods.compression.forms import EXACT, FORMATS
from fedkeras.mods.compression.number_format import pack, unpack
from fedkeras.mods.compression.sparsification import count_of, places_of, spread

TABLE = "compression"
"""Name of the record beside the arrays."""
DOWN, UP, SCALES = "down", "up", "scales"
TOPK = "topk"
MOST = 0.5
"""The largest topk: above half of all numbers, numbers and places take more bytes than the array."""
GAPS = "compression-gaps"
"""Name of the record of places."""

Chance = Callable[[str], np.random.Generator | None]
"""By an array's name: what its rounding is drawn from; None: to the nearest."""


def model_of(content: RecordDict) -> str | None:
    """The key of the record that holds the model; None where there is none. Others are the strategy's own."""
    found = of_kind(content, ArrayRecord)
    return "arrays" if "arrays" in found else next(iter(found), None)


def table_of(content: RecordDict) -> ConfigRecord | None:
    """What says how a message is to be read; None: it is not compressed."""
    return of_kind(content, ConfigRecord).get(TABLE)


def packed(arrays: Mapping[str, np.ndarray], forms: Sequence[str], chance: Chance) -> tuple[ArrayRecord, list[float]]:
    """Arrays in their forms, and their scales. Raises ValueError for what is not finite."""
    done = [
        Packed(array, EXACT, 1.0) if form == EXACT else _pack(name, array, form, chance)
        for (name, array), form in zip(arrays.items(), forms, strict=True)
    ]
    return record({name: each.data for name, each in zip(arrays, done, strict=True)}), [each.scale for each in done]


def unpacked(arrays: ArrayRecord, forms: Sequence[str], scales: Sequence[float]) -> dict[str, np.ndarray]:
    """The inverse of `packed`: float32 where something was packed. Raises ValueError for what does not fit."""
    if not isinstance(scales, list) or len(scales) != len(arrays) or len(forms) != len(arrays):
        raise ValueError(f"{len(arrays)} arrays came with other numbers of forms and scales")
    found = {}
    for (name, array), form, scale in zip(arrays.items(), forms, scales, strict=True):
        try:
            found[name] = view(array) if form == EXACT else unpack(Packed(view(array), form, scale))
        except ValueError as error:
            raise ValueError(f"'{name}': {error}") from error
    return found


def densified(
    arrays: ArrayRecord,
    gaps: ArrayRecord,
    like: ArrayRecord,
    forms: Sequence[str],
    scales: Sequence[float],
    share: float,
) -> dict[str, np.ndarray]:
    """Sparse arrays as whole ones, of the shapes of `like`. Raises ValueError for what does not fit."""
    sparse = [name for (name, form) in zip(like, forms, strict=True) if form != EXACT]
    shapes = {name: tuple(array.shape) for name, array in like.items()}
    counts = {name: (count_of(share, math.prod(shapes[name])),) for name in sparse}
    require_shapes(arrays, {**shapes, **counts})
    if list(gaps) != sparse:
        raise ValueError("places came for other arrays than numbers")
    require_shapes(gaps, counts)
    found = unpacked(arrays, forms, scales)
    for name in sparse:
        size = math.prod(shapes[name])
        try:
            places = places_of(view(gaps[name]), size)
        except ValueError as error:
            raise ValueError(f"'{name}': {error}") from error
        found[name] = spread(found[name], places, size).reshape(shapes[name])
    return found


def require_shapes(arrays: ArrayRecord, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError for an array of another shape."""
    for name, array in arrays.items():
        if tuple(array.shape) != shapes[name]:
            raise ValueError(f"'{name}' has the shape {list(array.shape)}, not {list(shapes[name])}")


def forms_in(table: ConfigRecord, key: str, count: int) -> list[str]:
    """The forms that a message states for so many arrays. Raises ValueError for what are none."""
    forms = table.get(key)
    if not isinstance(forms, list) or len(forms) != count or not set(forms) <= {EXACT, *FORMATS}:
        raise ValueError(f"a compressed message states no {count} forms as '{key}'")
    return forms


def _pack(name: str, array: np.ndarray, form: str, chance: Chance) -> Packed:
    try:
        return pack(array, form, chance(name))
    except ValueError as error:
        raise ValueError(f"'{name}': {error}") from error
