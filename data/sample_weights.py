"""Weights of training examples that come with the data: an array of an .npz file, or a column of a table.

A weight is what an example's loss is multiplied by in training: 0 or more. Which array or column it is, --sample-weight
says; unset, an array of an .npz file that is called sample_weight is one.
"""

import numpy as np

from fedkeras.errors import UserError

USUAL = "sample_weight"
"""The name of an array that nobody needs to name."""

IGNORED = "none"
"""In place of a name: no weights, whatever the data bring."""


def checked(weights: np.ndarray, rows: int, whose: str) -> np.ndarray:
    """The weights as float64, (rows,). Raises UserError, naming `whose` they are, for what are none.

    They must be as many as the rows, finite, not negative, and not all 0.
    """
    weights = np.asarray(weights)
    if weights.dtype.kind not in "biuf":
        raise UserError(f"{whose} are {weights.dtype}: weights are numbers, 0 or more")
    if weights.shape not in ((rows,), (rows, 1)):
        raise UserError(f"{whose} have shape {weights.shape}: there must be one for each of {rows} training examples")
    weights = weights.reshape(rows).astype(np.float64)
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(f"{whose}: that of example {row} (counted from 0) is {weights[row]:g}; weights are 0 or more")
    if not weights.any():
        raise UserError(f"{whose} are all 0: there would be nothing to learn from")
    return weights
