"""Which class a model takes each example for."""

import keras
import numpy as np
import tensorflow as tf

from fedkeras.learning.targets import threshold


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
