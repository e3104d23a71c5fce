"""What is learned from what: `XY`, the targets from the examples, or `XX`, the examples from themselves."""

import math

import numpy as np
import tensorflow as tf

from fedkeras.errors import UserError
from fedkeras.learning.learner import Learner
from fedkeras.learning.targets import is_sparse

TARGETS = ("XY", "XX")


def place(learner: Learner, x: np.ndarray, y: np.ndarray | None, target: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Check examples and targets against the model and move them to the device, as `learner.place` does.

    XX: y is not looked at, and the model's output has the size of its input, in the same shape or flat. XY: whole
    numbers are classes where the loss or the number of outputs says so, and amounts for a model with one output. Raises
    UserError with what does not fit.
    """
    if target not in TARGETS:
        raise UserError(f"--target is '{target}'; allowed are: {', '.join(TARGETS)}")
    output = tuple(learner.model.output_shape)[1:]
    if target == "XX":
        if is_sparse(learner.loss):
            raise UserError("--target XX compares numbers, not classes: give a --loss such as mean_squared_error")
        if None not in output and math.prod(output) != math.prod(x.shape[1:]):
            raise UserError(f"--target XX: the model gives back {output}, and an example is {tuple(x.shape[1:])}")
        y = x.reshape(len(x), *(x.shape[1:] if None in output else output))
        y = y.astype(np.float32, copy=False)
    elif y is None:
        raise UserError("--target XY needs targets, and there are none; an autoencoder is trained with --target XX")
    elif y.ndim == 1 and output == (1,) and not is_sparse(learner.loss) and not _two_classes(learner.loss, y):
        y = y.astype(np.float32)[:, None]  # amounts: whole numbers would be taken for classes
    try:
        return learner.place(x, y, from_itself=target == "XX")
    except ValueError as error:
        raise UserError(f"the data do not fit the model: {error}") from error


def _two_classes(loss: object, y: np.ndarray) -> bool:
    name = loss if isinstance(loss, str) else getattr(loss, "name", "") or getattr(loss, "__name__", "")
    return name.startswith("binary") and y.dtype.kind in "biu"
