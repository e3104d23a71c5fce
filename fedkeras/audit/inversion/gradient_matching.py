"""Images from an update: those whose own training would have moved the weights in the same direction.

Zhu, Liu, Han: Deep Leakage from Gradients, NeurIPS 2019, arXiv:1906.08935, began it: images are optimised until their
gradient is the one that was seen. Geiping, Bauermeister, Droege, Moeller: Inverting Gradients - How easy is it to break
privacy in federated learning?, NeurIPS 2020, arXiv:2003.14053, is what this is:

    x*  =  argmin over x in [low, high]   1 - <u(x), u> / (|u(x)| |u|)  +  a TV(x)

u is the update that the server saw, u(x) the one that a client with images x would send, TV the total variation (the
mean absolute difference of neighbours), and the sign of the gradient is handed to Adam, whose rate falls to a tenth
after 3/8, 5/8 and 7/8 of the steps. The direction alone counts: clipping an update hides nothing. Where a client makes
several steps, u(x) is simulated step by step, as in section 6 of the paper (federated averaging); the order of its
batches comes from the run's seed, which the server knows. Of several restarts the one of the least objective
counts; the originals are not looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

RATE = 0.1
"""Of Adam, in units of the range of the inputs."""
DROPS = (3 / 8, 5 / 8, 7 / 8)
CHUNK = 50
"""Steps in a call of the compiled loop."""

Batches = Sequence[Sequence[np.ndarray]]
"""Of each client in the update, of each of its steps: the places of the step's images among all that are looked for."""


@dataclass(frozen=True)
class Rebuilt:
    """Images (n, *input shape), and the objective that they reached."""

    images: np.ndarray
    objective: float


class GradientMatching:
    """Rebuilds images from updates of one model, from its present weights on; compiled once for updates of one kind.

    The clients train by SGD with the learning rate `rate`. `low` and `high` are the range of the inputs, `weight` is
    the total variation's. Dropout and BatchNormalization are taken as they are in evaluation.
    """

    def __init__(self, model: keras.Model, rate: float, *, low: float, high: float, weight: float) -> None:
        self._model, self._rate, self._low, self._high, self._weight = model, rate, low, high, weight
        self._start = [tf.identity(variable.value) for variable in model.trainable_variables]
        self._fixed = [tf.identity(variable.value) for variable in model.non_trainable_variables]
        self._adam: keras.optimizers.Optimizer | None = None
        self._loop = tf.function(self._search, autograph=False)

    def update(self, images: np.ndarray, labels: np.ndarray, batches: Batches) -> list[np.ndarray]:
        """What the server sees of clients with these images (n, ...) of these labels (n,): the mean of their updates.

        An array a trainable weight, in the model's order; a client counts by how many images it has.
        """
        found = self._mean_update(tf.constant(images, tf.float32), *_tensors(labels, batches))
        return [array.numpy() for array in found]

    def rebuild(
        self, update: Sequence[np.ndarray], labels: np.ndarray, batches: Batches, rng: np.random.Generator,
        steps: int = 1000, restarts: int = 1,
    ) -> Rebuilt:  # fmt: skip
        """The images (n, ...) of the least objective in `restarts` searches; `update` is as from `update`."""
        seen = [tf.constant(array, tf.float32) for array in update]
        shape, best = (len(labels), *self._model.inputs[0].shape[1:]), None
        images = tf.Variable(tf.zeros(shape))
        if self._adam is None or self._images.shape != images.shape:
            self._images, self._adam = images, keras.optimizers.Adam(RATE)
            self._adam.build([images])
            self._fresh = [tf.identity(variable.value) for variable in self._adam.variables]
            self._loop = tf.function(self._search, autograph=False)
        for _ in range(restarts):
            self._images.assign(rng.uniform(self._low, self._high, shape).astype(np.float32))
            for variable, fresh in zip(self._adam.variables, self._fresh, strict=True):
                variable.assign(fresh)
            for first in range(0, steps, CHUNK):
                rate = (self._high - self._low) * RATE * 0.1 ** sum(first >= share * steps for share in DROPS)
                bounds = tf.constant(rate, tf.float32), tf.constant(min(CHUNK, steps - first))
                objective = self._loop(seen, *_tensors(labels, batches), *bounds)
            found = Rebuilt(self._images.numpy(), float(objective))
            best = found if best is None or found.objective < best.objective else best
        assert best is not None
        return best

    def objective(
        self, images: np.ndarray, update: Sequence[np.ndarray], labels: np.ndarray, batches: Batches
    ) -> float:
        """What `rebuild` minimises, of these images."""
        images = tf.constant(images, tf.float32)
        seen = [tf.constant(array, tf.float32) for array in update]
        off = distance(self._mean_update(images, *_tensors(labels, batches)), seen)
        return float(off + self._weight * variation(images))

    def _search(
        self,
        seen: Sequence[tf.Tensor],
        labels: tf.Tensor,
        batches: Sequence[Sequence[tf.Tensor]],
        shares: tf.Tensor,
        rate: tf.Tensor,
        count: tf.Tensor,
    ) -> tf.Tensor:
        """So many steps on; the objective before the last of them."""
        self._adam.learning_rate.assign(rate)

        def one(step: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape() as tape:
                images = tf.identity(self._images)
                tape.watch(images)
                off = distance(self._mean_update(images, labels, batches, shares), seen)
                objective = off + self._weight * variation(images)
            gradient = tape.gradient(objective, images, unconnected_gradients="zero")
            self._adam.apply_gradients([(tf.sign(gradient), self._images)])
            self._images.assign(tf.clip_by_value(self._images, self._low, self._high))
            return step + 1, objective

        begin = tf.constant(0), tf.constant(0.0)
        _, objective = tf.while_loop(lambda step, _: step < count, one, begin, parallel_iterations=1)
        return objective

    def _mean_update(
        self, images: tf.Tensor, labels: tf.Tensor, batches: Sequence[Sequence[tf.Tensor]], shares: tf.Tensor
    ) -> list[tf.Tensor]:
        moved = [self._update_of(images, labels, steps) for steps in batches]
        return [tf.add_n([shares[i] * array for i, array in enumerate(arrays)]) for arrays in zip(*moved, strict=True)]

    def _update_of(self, images: tf.Tensor, labels: tf.Tensor, steps: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """One client's."""
        weights = list(self._start)
        for places in steps:
            with tf.GradientTape() as tape:
                tape.watch(weights)
                answer = self._model.stateless_call(weights, self._fixed, tf.gather(images, places), training=False)
                loss = self._model.compute_loss(None, tf.gather(labels, places), answer[0], training=True)
            found = tape.gradient(loss, weights, unconnected_gradients="zero")
            weights = [weight - self._rate * gradient for weight, gradient in zip(weights, found, strict=True)]
        return [weight - start for weight, start in zip(weights, self._start, strict=True)]


def _tensors(labels: np.ndarray, batches: Batches) -> tuple[tf.Tensor, list[list[tf.Tensor]], tf.Tensor]:
    """Labels, places, and the share of each client."""
    counts = np.array([len(np.unique(np.concatenate(list(steps)))) for steps in batches], np.float32)
    places = [[tf.constant(np.asarray(each), tf.int32) for each in steps] for steps in batches]
    return tf.constant(np.asarray(labels, np.int64)), places, tf.constant(counts / counts.sum())


def distance(update: Sequence[tf.Tensor], seen: Sequence[tf.Tensor]) -> tf.Tensor:
    """1 - the cosine between two updates, each as one vector."""
    inner = tf.add_n([tf.reduce_sum(a * b) for a, b in zip(update, seen, strict=True)])
    lengths = [tf.sqrt(tf.add_n([tf.reduce_sum(a * a) for a in each]) + 1e-20) for each in (update, seen)]
    return 1 - inner / (lengths[0] * lengths[1])


def variation(images: tf.Tensor) -> tf.Tensor:
    """Mean absolute difference of neighbours along each axis but the first (images) and the last (channels)."""
    found = []
    for axis in range(1, len(images.shape) - 1):
        size = images.shape[axis]
        if size > 1:
            ahead, behind = (tf.gather(images, range(first, size - 1 + first), axis=axis) for first in (1, 0))
            found.append(tf.reduce_mean(tf.abs(ahead - behind)))
    return tf.add_n(found) if found else tf.constant(0.0)
