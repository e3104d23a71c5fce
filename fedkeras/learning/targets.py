"""What a model is to learn: loss, metrics, and targets in the form that the loss takes; and the classes it predicts."""

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from fedkeras.errors import UserError

Loss = str | keras.losses.Loss | Callable[..., tf.Tensor]
"""A Keras loss by name, an object or a function; "" is unset."""

MetricName = str | keras.metrics.Metric
"""A metric of Keras' by name, or an object."""

SPARSE = "sparse_categorical_crossentropy"


def choose_loss(model: keras.Model, loss: Loss) -> Loss:
    """Return `loss` if given; else the loss the model was compiled with; else the one for a classifier.

    Raises UserError for a name Keras does not know.
    """
    if not loss:
        own = model.loss if model.compiled else None
        return own if own is not None else SPARSE
    try:
        return keras.losses.get(loss) and loss
    except ValueError as error:
        raise UserError(f"--loss is '{loss}', which is not a loss of Keras, such as {SPARSE}") from error


def is_sparse(loss: Loss) -> bool:
    """True if `loss` compares with class numbers and not with vectors."""
    return _name(loss).startswith("sparse")


def ends_in_softmax(model: keras.Model) -> bool:
    """True if the last layer says how likely each class is."""
    return bool(model.layers) and getattr(model.layers[-1], "activation", None) is keras.activations.softmax


def threshold(loss: Loss | None) -> float:
    """Above which single output a model says class 1: a half, or 0 where outputs are logits or margins."""
    return 0.0 if getattr(loss, "from_logits", False) or "hinge" in _name(loss) else 0.5


def choose_metrics(
    model: keras.Model, loss: Loss, others: Sequence[MetricName], whole: keras.Model | None = None
) -> list[keras.metrics.Metric]:
    """Accuracy, where the model tells classes apart, and `others` by name. Raises UserError for an unknown name.

    `whole`: the model whose last part `model` is. One whose output has the size of its input compares amounts under a
    binary loss, as an autoencoder of grey pixels does, and has no accuracy.
    """
    accuracy: list[keras.metrics.Metric] = []
    if is_sparse(loss):
        accuracy = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
    elif _name(loss).startswith("binary"):
        if not _of_one_size(whole or model):
            accuracy = [_binary_accuracy(threshold(loss))]
    elif ends_in_softmax(model) or _name(loss).startswith("categorical"):
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


def prepare(
    x: np.ndarray, y: np.ndarray | None, output: tuple[int, ...], loss: Loss, from_itself: bool = True
) -> np.ndarray:
    """Return the targets of examples `x` with labels `y`, in the form that `loss` takes.

    `output` is the shape of the model's output for one example.
    - A loss over class numbers takes labels, checked against the number of outputs.
    - A model whose output has the shape of its input, an autoencoder, learns `x` in place of None; and in place of
      labels too, unless the loss is a categorical one, the output is a single number, or `from_itself` is False, as
      it should be for a model that ends in a softmax.
    - For any other loss, labels become one-hot vectors if the model has an output a class.
    - Other targets must have the output's shape; (examples,) will do for a single output.

    Raises ValueError for labels out of range and for anything else that does not fit.
    """
    can_learn_itself = output == x.shape[1:] and not is_sparse(loss)
    if y is None and not can_learn_itself:
        raise ValueError("labels are missing: only a model whose output has the shape of its input needs none")
    y = None if y is None else np.asarray(y)
    if y is None or (can_learn_itself and from_itself and _are_labels(y) and not _tells_classes_apart(output, loss)):
        return x.astype("float32", copy=False)
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


def _are_labels(y: np.ndarray) -> bool:
    return y.ndim == 1 and np.issubdtype(y.dtype, np.integer)


def _tells_classes_apart(output: tuple[int, ...], loss: Loss) -> bool:
    """Whether labels mean classes although the output has the input's shape: four features and four classes, say."""
    return output == (1,) or _name(loss).startswith("categorical")


def _of_one_size(model: keras.Model) -> bool:
    """True if an example's input and output have as many numbers, and more than one."""
    if not getattr(model, "inputs", None):  # a subclassed model does not say
        return False
    sizes = [shape[1:] for shape in (model.input_shape, model.output_shape)]
    if any(None in shape for shape in sizes):
        return sizes[0] == sizes[1]
    return math.prod(sizes[0]) == math.prod(sizes[1]) > 1


def _binary_accuracy(above: float) -> keras.metrics.Metric:
    """Keras' BinaryAccuracy takes no threshold of 0, which logits need."""
    if above == 0.5:
        return keras.metrics.BinaryAccuracy(name="accuracy")
    return keras.metrics.MeanMetricWrapper(keras.metrics.binary_accuracy, name="accuracy", threshold=above)


def _labels(y: np.ndarray, classes: int) -> np.ndarray:
    if not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"labels must be whole numbers, not {y.dtype}")
    if y.min() < 0 or y.max() >= classes:
        raise ValueError(f"labels must lie in 0 to {classes - 1}; these lie in {y.min()} to {y.max()}")
    return y


def _name(loss: Loss | None) -> str:
    """`SparseCategoricalCrossentropy()` and "sparse_categorical_crossentropy" are one."""
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    return name.replace("_", "").lower()


def predicted_classes(model: keras.Model, x: tf.Tensor, labels: np.ndarray, classes: int) -> np.ndarray | None:
    """The most likely class of each example of `x`, (examples,), as accuracy counts it for the compiled loss.

    None where model and labels are not those of a classifier of `classes` classes.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels) or labels.max() >= classes:
        return None
    values = np.asarray(model.predict(x, batch_size=256, verbose=0), np.float32)
    if values.shape == (len(labels), classes):
        return values.argmax(axis=1)
    if values.shape == (len(labels), 1) and classes == 2:
        return (values[:, 0] > threshold(model.loss if model.compiled else None)).astype(np.int64)
    return None
