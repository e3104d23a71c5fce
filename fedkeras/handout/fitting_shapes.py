"""Do rows of data fit a model's input? Found out before anything is sent."""

import math

from fedkeras.errors import UserError

Shape = tuple[int | None, ...]


def input_shape(takes: Shape | None, row: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which rows go into a model that takes `takes`: 784 columns, or 28 x 28, may be an image.

    Raises UserError where they cannot. None: the model file does not say what it takes, and rows stay as they are.
    """
    if takes is None:
        return row
    if None not in takes and math.prod(takes) == math.prod(row):
        return tuple(takes)
    if len(takes) == len(row) and all(own in (None, size) for own, size in zip(takes, row, strict=True)):
        return row
    known = " x ".join("any" if size is None else str(size) for size in takes)
    held = " x ".join(map(str, row)) or "1"
    raise UserError(f"the model takes {known} numbers an example, and the data have {held}; they do not fit")
