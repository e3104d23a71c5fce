"""What a model is to learn: metrics, and targets in the form that the loss takes; and the classes it predicts."""

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from fedkeras.errors import UserError
from fedkeras.learning.losses import Loss, Targets, is_sparse, name_of, threshold
from fedkeras.learning.objectives import only_output
from fedkeras.models.file_info import Shape
from fedkeras.models.input_kind import kind_of_model
from fedkeras.models.output import SOFTMAX, Output, output_of

MetricName = str | keras.metrics.Metric | Callable[..., tf.Tensor]
"""A metric of Keras' by name, an object, or a function of (targets, outputs)."""


def choose_metrics(
    loss: Loss, output: Output, others: Sequence[MetricName], targets: Targets = "", takes: Shape | None = None
) -> list[keras.metrics.Metric]:
    """Accuracy, where the model tells classes apart, and `others` by name. Raises UserError for an unknown name.

    `takes` is the shape of an example. Where it is not known what is learned, a model whose output has the size of its
    input compares amounts under a binary loss, as an autoencoder of grey pixels does, and has no accuracy.
    """
    accuracy = _accuracy(loss, output, targets, takes)
    try:
        made = ([accuracy] if accuracy else []) + [_metric(other) for other in others]
    except ValueError as error:
        raise UserError(f"not all of these are metrics of Keras: {', '.join(map(str, others))}") from error
    return list({metric.name: metric for metric in reversed(made)}.values())[::-1]  # each name once, the first of it


def _accuracy(loss: Loss, output: Output, targets: Targets, takes: Shape | None) -> keras.metrics.Metric | None:
    if targets == "itself":
        return None
    if is_sparse(loss):
        return keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    of_classes, above = targets in ("classes", "integers"), threshold(loss, output)
    if output.units == 1 or (name_of(loss).startswith("binary") and not of_classes):
        binary = of_classes or name_of(loss).startswith("binary")
        if not binary or above is None or (not of_classes and takes is not None and _of_one_size(output.shape, takes)):
            return None
        return _binary_accuracy(above)
    if of_classes or output.kind == SOFTMAX or name_of(loss).startswith("categorical"):
        return keras.metrics.CategoricalAccuracy(name="accuracy")
    return None


def _binary_accuracy(above: float) -> keras.metrics.Metric:
    """Keras' BinaryAccuracy takes no threshold of 0, which logits need."""
    if above == 0.5:
        return keras.metrics.BinaryAccuracy(name="accuracy")
    return keras.metrics.MeanMetricWrapper(keras.metrics.binary_accuracy, name="accuracy", threshold=above)


def _metric(metric: MetricName) -> keras.metrics.Metric:
    """An object of its own: a metric that two models share would count the examples of both."""
    found = keras.metrics.get(metric)
    if isinstance(found, keras.metrics.Metric):
        return found
    return keras.metrics.MeanMetricWrapper(found, name=getattr(found, "__name__", type(found).__name__))


def looked_up_by(model: keras.Model) -> str:
    """The layer for which examples must be whole numbers; "" if the model computes with them."""
    found = kind_of_model(model)
    return found.layer if found.kind == "integers" else ""


def check_examples(x: np.ndarray, takes: keras.KerasTensor | None, looks_up: str = "") -> np.ndarray:
    """Return examples in the dtype of the model's input `takes`; None: float32, and any shape will do.

    `looks_up` names the layer of a model that takes whole numbers. Raises ValueError for another shape than the model
    takes, and for no examples; UserError for a number that the model would see as another whole one.
    """
    dtype = "float32" if takes is None else takes.dtype
    given = np.asarray(x)
    if (dtype == "string") != (given.dtype.kind in "UST"):
        raise ValueError("the model takes text, and the examples are numbers" if dtype == "string" else "the examples "
                         "are text, and the model takes numbers")  # fmt: skip
    x = given if dtype == "string" else np.asarray(given, dtype)
    if dtype != "string" and (looks_up or x.dtype.kind in "iu"):
        _check_whole(given, x, looks_up)
    if takes is not None and not takes.shape[1:] == x.shape[1:] and None not in takes.shape[1:]:
        raise ValueError(f"examples have shape {x.shape[1:]}; the model takes {tuple(takes.shape[1:])}")
    if len(x) == 0:
        raise ValueError("there are no examples")
    return x


def _check_whole(given: np.ndarray, cast: np.ndarray, looks_up: str) -> None:
    """Raise UserError unless `cast` holds the numbers that were given, and these are whole."""
    odd = cast != given
    if given.dtype.kind == "f":
        odd |= given != np.rint(given)
    if not odd.any():
        return
    example, *place = np.argwhere(odd)[0].tolist()
    where = f"column {place[0] + 1}" if len(place) == 1 else f"place {place}" if place else "it"
    value = given[(example, *place)]
    raise UserError(
        f"the model takes whole numbers ({looks_up or cast.dtype.name}), and example {example + 1} has {value:.12g} in "
        f"{where}, which it would see as another; give what is looked up as numbers from 0, and scale nothing"
    )


def prepare(
    x: np.ndarray, y: np.ndarray | None, output: tuple[int, ...], loss: Loss, from_itself: bool = True
) -> np.ndarray:
    """Return the targets of examples `x` with labels `y`, in the form that `loss` takes.

    `output` is the shape of the model's output for one example.
    - A loss over class numbers takes labels, checked against the number of outputs; one-hot rows become labels.
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
    if y.ndim == 2 and y.shape[1] == 1 and len(output) == 1 and output != (1,):
        y = y[:, 0]  # a column of labels
    if is_sparse(loss):
        return _class_numbers(y, output).astype("int32")
    if y.ndim == 1 and name_of(loss).startswith("categorical") and _are_whole(y):
        y = y.astype("int64")
    if y.shape[1:] == output or (y.ndim == 1 and output == (1,) and not np.issubdtype(y.dtype, np.integer)):
        return y.reshape(len(y), *output).astype("float32", copy=False)
    if y.ndim == 1 and len(output) == 1:
        labels = _labels(y, max(output[0], 2))
        return labels[:, None].astype("float32") if output == (1,) else np.eye(output[0], dtype="float32")[labels]
    raise ValueError(f"targets have shape {y.shape[1:]}; the model's output has {output}")


def _class_numbers(y: np.ndarray, output: tuple[int, ...]) -> np.ndarray:
    """Labels, a number for each row of outputs."""
    if y.shape[1:] == output and output:
        if not (((y == 0) | (y == 1)).all() and (y.sum(axis=-1) == 1).all()):
            raise ValueError(
                "targets have a number for each output, and not one class a row; a sparse loss compares with class "
                "numbers: --loss categorical_crossentropy or binary_crossentropy compares with such rows"
            )
        return y.argmax(axis=-1)
    if y.shape[1:] not in (output[:-1], (*output[:-1], 1)):
        raise ValueError(f"labels have shape {y.shape[1:]}; the model's output has {output}")
    return _labels(y.astype("int64") if _are_whole(y) else y, output[-1])


def _are_whole(y: np.ndarray) -> bool:
    """Whether these are labels in a float's clothes."""
    return y.dtype.kind == "f" and bool((y == np.rint(y)).all())


def _are_labels(y: np.ndarray) -> bool:
    return y.ndim == 1 and np.issubdtype(y.dtype, np.integer)


def _tells_classes_apart(output: tuple[int, ...], loss: Loss) -> bool:
    """Whether labels mean classes although the output has the input's shape: four features and four classes, say."""
    return output == (1,) or name_of(loss).startswith("categorical")


def _of_one_size(gives: Shape, takes: Shape) -> bool:
    """True if an example's input and output have as many numbers, and more than one."""
    if None in gives or None in takes:
        return tuple(gives) == tuple(takes)
    return math.prod(gives) == math.prod(takes) > 1


def _labels(y: np.ndarray, classes: int) -> np.ndarray:
    if not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"labels must be whole numbers, not {y.dtype}")
    if y.min() < 0 or y.max() >= classes:
        raise ValueError(f"labels must lie in 0 to {classes - 1}; these lie in {y.min()} to {y.max()}")
    return y


def predicted_classes(model: keras.Model, x: tf.Tensor, labels: np.ndarray, classes: int) -> np.ndarray | None:
    """The most likely class of each example of `x`, (examples,), as accuracy counts it for the compiled loss.

    None where model and labels are not those of a classifier of `classes` classes.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels) or labels.max() >= classes:
        return None
    values = np.asarray(only_output(model.predict(x, batch_size=256, verbose=0)), np.float32)
    if values.shape == (len(labels), classes):
        return values.argmax(axis=1)
    if values.shape == (len(labels), 1) and classes == 2:
        above = threshold(model.loss if model.compiled else None, output_of(model))
        return None if above is None else (values[:, 0] > above).astype(np.int64)
    return None
