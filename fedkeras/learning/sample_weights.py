"""What each example's loss is multiplied by: weights that came with the data, and those of the example's class.

They mean what `fit(sample_weight=..., class_weight=...)` means in Keras: the weighted losses of a batch are summed and
divided by the number of its examples, not by the sum of their weights; metrics, and every evaluation, are unweighted.
Keras takes one of the two at a time; here they multiply.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from fedkeras.errors import UserError

Weights = np.ndarray | tf.Tensor
"""One number an example, (examples,), 0 or more."""


def combined(
    targets: Weights, sample_weight: np.ndarray | None, class_weights: Sequence[float] | None
) -> np.ndarray | None:
    """The weight of each example, float32 (examples,); None where there are none of either kind.

    `targets` are from `Learner.place`: class numbers, or one-hot rows, whose classes are looked up in `class_weights`.
    Raises UserError for targets that are no classes.
    """
    if class_weights is None:
        return None if sample_weight is None else np.asarray(sample_weight, np.float32)
    of_examples = np.asarray(class_weights, np.float64)[_classes(np.asarray(targets), len(class_weights))]
    if sample_weight is not None:
        of_examples = of_examples * np.asarray(sample_weight, np.float64)
    return of_examples.astype(np.float32)


def place_weights(sample_weight: Weights | None, examples: int) -> tuple[tf.Tensor, ...]:
    """The weights on the device, float32, alone in a tuple; an empty one where there are none.

    Raises ValueError for other than one weight an example.
    """
    if sample_weight is None:
        return ()
    placed = tf.cast(tf.convert_to_tensor(sample_weight), tf.float32)
    if placed.shape != (examples,):
        raise ValueError(f"there are {examples} examples, and weights of shape {tuple(placed.shape)}")
    return (placed,)


def _classes(targets: np.ndarray, count: int) -> np.ndarray:
    """The class of each example, as Keras finds it for `class_weight`. Raises UserError where that makes no sense."""
    flat = targets.reshape(len(targets)) if targets.shape[1:] in ((), (1,)) else None
    one_hot = targets.ndim == 2 and targets.shape[1] > 1 and np.isin(targets, (0, 1)).all()
    if one_hot and (targets.sum(axis=1) == 1).all():
        flat = np.argmax(targets, axis=1)
    if flat is None or (flat != np.rint(flat)).any() or flat.min() < 0 or flat.max() >= count:
        raise UserError(
            "--class-weight balanced needs one class an example, and this model learns something else (itself, amounts "
            "or several labels at once): leave it out"
        )
    return flat.astype(np.int64)
