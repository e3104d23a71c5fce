"""What the model is to learn: the loss, and the targets in the form that loss takes."""

import keras
import numpy as np

from fedkeras.errors import UserError

SPARSE = "sparse_categorical_crossentropy"


def choose_loss(model: keras.Model, loss: object) -> object:
    """Return `loss` if given; else the loss the model was compiled with; else the one for a classifier.

    `loss` is a Keras loss by name, an object, or "" for unset. Raises UserError for a name Keras does not know.
    """
    if not loss:
        own = model.loss if model.compiled else None
        return own if own is not None else SPARSE
    try:
        return keras.losses.get(loss) and loss
    except ValueError as error:
        raise UserError(f"--loss is '{loss}', which is not a loss of Keras, such as {SPARSE}") from error


def is_sparse(loss: object) -> bool:
    """True if `loss` compares with class numbers and not with vectors."""
    return _name(loss).startswith("sparse")


def choose_metrics(model: keras.Model, loss: object, others: tuple) -> list[keras.metrics.Metric]:
    """Accuracy, where the model tells classes apart, and `others` by name. Raises UserError for an unknown name."""
    softmax = model.layers and getattr(model.layers[-1], "activation", None) is keras.activations.softmax
    accuracy: list[keras.metrics.Metric] = []
    if is_sparse(loss):
        accuracy = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
    elif _name(loss).startswith("binary"):
        accuracy = [keras.metrics.BinaryAccuracy(name="accuracy")]
    elif softmax or _name(loss).startswith("categorical"):
        accuracy = [keras.metrics.CategoricalAccuracy(name="accuracy")]
    try:
        return accuracy + [keras.metrics.get(other) for other in others]
    except ValueError as error:
        raise UserError(f"not all of these are metrics of Keras: {', '.join(map(str, others))}") from error


def check_examples(x: np.ndarray, takes: keras.KerasTensor | None) -> np.ndarray:
    """Return examples in the dtype of the model's input `takes`; None: float32, and any shape will do.

    Raises ValueError for another shape than the model takes, and for no examples.
    """
    x = np.asarray(x, "float32" if takes is None else takes.dtype)
    if takes is not None and not takes.shape[1:] == x.shape[1:] and None not in takes.shape[1:]:
        raise ValueError(f"examples have shape {x.shape[1:]}; the model takes {tuple(takes.shape[1:])}")
    if len(x) == 0:
        raise ValueError("there are no examples")
    return x


def prepare(x: np.ndarray, y: np.ndarray | None, output: tuple[int, ...], loss: object) -> np.ndarray:
    """Return the targets of examples `x` with labels `y`, in the form that `loss` takes.

    `output` is the shape of the model's output for one example.
    - A loss over class numbers takes labels, checked against the number of outputs.
    - A model whose output has the shape of its input, an autoencoder, learns `x` in place of labels or of None.
    - For any other loss, labels become one-hot vectors if the model has an output a class.
    - Other targets must have the output's shape; (examples,) will do for a single output.

    Raises ValueError for labels out of range and for anything else that does not fit.
    """
    if y is None or (np.ndim(y) == 1 and np.issubdtype(np.asarray(y).dtype, np.integer)):
        if output == x.shape[1:] and not is_sparse(loss):
            return x.astype("float32", copy=False)
        if y is None:
            raise ValueError("labels are missing: only a model whose output has the shape of its input needs none")
    y = np.asarray(y)
    if len(x) != len(y):
        raise ValueError(f"there are {len(x)} examples and {len(y)} labels")
    if is_sparse(loss):
        return _labels(y, output[-1]).astype("int32")
    if y.shape[1:] == output or (y.ndim == 1 and output == (1,) and not np.issubdtype(y.dtype, np.integer)):
        return y.reshape(len(y), *output).astype("float32", copy=False)
    if y.ndim == 1 and len(output) == 1:
        labels = _labels(y, max(output[0], 2))
        return labels[:, None].astype("float32") if output == (1,) else np.eye(output[0], dtype="float32")[labels]
    raise ValueError(f"targets have shape {y.shape[1:]}; the model's output has {output}")


def _labels(y: np.ndarray, classes: int) -> np.ndarray:
    if not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"labels must be whole numbers, not {y.dtype}")
    if y.min() < 0 or y.max() >= classes:
        raise ValueError(f"labels must lie in 0 to {classes - 1}; these lie in {y.min()} to {y.max()}")
    return y


def _name(loss: object) -> str:
    """`SparseCategoricalCrossentropy()` and "sparse_categorical_crossentropy" are one."""
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    return name.replace("_", "").lower()
