"""The loss of each example by itself, as attacks on a model need it: an evaluation gives their mean alone."""

import keras
import numpy as np
import tensorflow as tf

from fedkeras.errors import UserError
from fedkeras.learning.learner import Learner
from fedkeras.learning.losses import Loss

BATCH = 1024


def example_losses(learner: Learner, x: tf.Tensor, y: tf.Tensor) -> np.ndarray:
    """The loss of each example under the model's present weights, (n,), float64; x and y are from `learner.place`.

    Their mean is what `learner.evaluate` gives, without penalties that layers add and without the loss's own weight.
    Raises UserError for a loss that gives one number for a batch.
    """
    found = []
    for first in range(0, int(x.shape[0]), BATCH):
        predicted = learner.model(x[first : first + BATCH], training=False)
        found.append(_of_batch(learner.loss, y[first : first + BATCH], predicted))
    return np.concatenate(found) if found else np.zeros(0)


def _of_batch(loss: Loss, y: tf.Tensor, predicted: tf.Tensor) -> np.ndarray:
    function = keras.losses.get(loss) if isinstance(loss, str) else loss
    compute = function.call if isinstance(function, keras.losses.Loss) else function
    if predicted.shape.rank == 1 + y.shape.rank and predicted.shape[-1] == 1:
        y = tf.expand_dims(y, -1)  # as Keras does it: a column of one number an example
    values = np.asarray(compute(y, predicted), np.float64)
    if values.ndim == 0 or len(values) != int(y.shape[0]):
        raise UserError("the model's loss gives one number for a batch, so single examples cannot be told apart")
    return values.reshape(len(values), -1).mean(axis=1)
