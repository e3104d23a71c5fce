"""DP-SGD: gradients that tell hardly anything about one example.

M. Abadi, A. Chu, I. Goodfellow, H. B. McMahan, I. Mironov, K. Talwar, L. Zhang, "Deep Learning with Differential
Privacy", CCS 2016, arXiv:1607.00133, algorithm 1. Batches are Poisson samples of the examples with rate q = B / n. Each
example's gradient over all trainable arrays is clipped to a length C, and

    g  =  (sum_i clip_C(g_i) + N(0, (z C)^2 I)) / (q n)

goes to the optimizer, whatever that makes of it. The denominator is the expected size of a batch: its real size is a
secret. Sample weights and regularisation belong to an example's loss, and so are within its clipping bound. FedProx's
term is not: it depends on no example, needs no noise, and clipped with the loss it would weaken the loss's part.

Coins, noise and Dropout's masks come from the operating system's randomness, since the server knows the run's seed;
with `study` they come from that seed, and nothing is private.
"""

import math
import secrets
from collections.abc import Hashable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from fedkeras import models
from fedkeras.accountant import calibrate, require_library
from fedkeras.learning.layer_gradients import chunk_by_layers, numbers_an_example, takes
from fedkeras.learning.objectives import Gradients, Objective, Proximal, only_output
from fedkeras.learning.per_example import chunk_of_any, chunk_size, in_chunks
from fedkeras.learning.poisson import Batches, draw_batches, rate_of, steps_of
from fedkeras.learning.private_model import require_private, require_unchanged

NOISE, RATE, STEPS = "dp-sgd-noise", "dp-sgd-rate", "dp-sgd-steps"
"""Figures of a training: the noise multiplier z, the rate q, and how many noisy sums were made. They follow from the
number of examples, which is no secret, and from the run's settings."""

PHILOX = 1
_NOISE, _MASKS = 0, 1
"""Streams of random numbers in a step."""


class DpSgd(Objective):
    """The loss, by gradients that are clipped for each example and noised.

    `clip` is C. The noise multiplier z is `noise`, or, if that is 0, the least by which `rounds` trainings of `epochs`
    epochs keep within `epsilon` at `delta` for this client's number of examples (dp-accounting, PLD). With both 0
    gradients are clipped and not noised. Raises ValueError for numbers that are none of these.
    """

    def __init__(
        self,
        clip: float = 1.0,
        noise: float = 0.0,
        epsilon: float = 0.0,
        delta: float = 0.0,
        rounds: int = 0,
        epochs: int = 0,
        study: bool = False,
    ) -> None:
        numbers = {"clip": clip, "noise": noise, "epsilon": epsilon, "delta": delta, "rounds": rounds, "epochs": epochs}
        for name, value in numbers.items():
            if isinstance(value, bool) or not 0 <= float(value) < math.inf:
                raise ValueError(f"{name}={value} must be 0 or more, and finite")
        if not clip:
            raise ValueError("clip must be above 0")
        if epsilon and not noise and not (0 < delta < 1 and rounds >= 1 and epochs >= 1):
            raise ValueError("epsilon is for a delta between 0 and 1, and for rounds and epochs from 1 on")
        self.clip, self.noise, self.epsilon, self.delta = float(clip), float(noise), float(epsilon), float(delta)
        self.rounds, self.epochs, self.study = int(rounds), int(epochs), bool(study)
        self.mu = 0.0
        self._expected, self._figures = 1.0, {}
        self._random: np.random.Generator | None = None

    def beside(self, proximal: Proximal) -> "DpSgd":
        """With the proximal term added to the noised gradients."""
        self.mu = proximal.mu
        return self

    def graph_key(self) -> Hashable:
        """The class, and whether there is a proximal term: all numbers are arguments of the graph."""
        return type(self), bool(self.mu)

    def check(self, model: keras.Model) -> None:
        """Raise UserError for a model with state that its examples change, or that computes in 16-bit floats."""
        require_private(model)

    def plan(self, examples: int, batch_size: int, epochs: int, rng: np.random.Generator) -> Batches:
        """Poisson batches; and the noise is settled by the number of examples."""
        rate, steps = rate_of(examples, batch_size), steps_of(examples, batch_size)
        noise = self.noise
        if not noise and self.epsilon:
            require_library("dp-sgd", ", or let the server say noise-multiplier in the place of epsilon")
            noise = calibrate(self.epsilon, self.delta, self.rounds * self.epochs * steps, rate).pld
        self._expected = rate * examples
        self._figures = {NOISE: noise, RATE: rate, STEPS: float(epochs * steps)}
        self._random = rng if self.study else np.random.default_rng(secrets.randbits(256))
        return draw_batches(self._random, examples, batch_size, epochs)

    def figures(self) -> Mapping[str, float]:
        """What was done to the last training's gradients."""
        return self._figures

    def begin(self, weights: Sequence[keras.Variable], rng: np.random.Generator) -> Sequence[tf.Tensor]:
        """Key and counter of this training's random numbers, clipping bound, noise, expected batch size; the anchors.

        Raises ValueError if `plan` was not asked before.
        """
        if self._random is None:
            raise ValueError("the objective DpSgd makes its own batches: this way to train does not ask it for them")
        words = self._random.integers(0, 2**64, 2, dtype=np.uint64, endpoint=False)
        deviation = self._figures[NOISE] * self.clip
        numbers = [tf.constant(number, tf.float32) for number in (self.clip, deviation, self._expected)]
        anchors = [tf.constant(self.mu, tf.float32), *(tf.identity(weight.value) for weight in weights)]
        return [tf.constant(words), *numbers, *(anchors if self.mu else ())]

    def gradients(
        self,
        model: keras.Model,
        x: tf.Tensor,
        y: tf.Tensor,
        weights: Sequence[keras.Variable],
        begun: Sequence[tf.Tensor],
        step: tf.Tensor,
        sample_weight: tf.Tensor | None = None,
    ) -> Gradients:
        """The noised mean of the clipped gradients. `loss` and `predicted` are the batch's own, not protected."""
        require_unchanged(model, x[:1])
        words, clip, deviation, expected, *anchors = begun
        count, states = tf.shape(x)[0], models.random_states(model)
        seeds = _integers(words, step, _MASKS, [count, len(states), 2], tf.uint32)
        if sample_weight is None:
            sample_weight = tf.ones([count])
        output = only_output(model(x[:1], training=False)).shape
        by_layers = takes(model, weights)
        of_chunk = (chunk_by_layers if by_layers else chunk_of_any)(model, weights, clip, states)
        numbers = numbers_an_example(model) if by_layers else sum(math.prod(weight.shape) for weight in weights)
        size = chunk_size(numbers)
        found = in_chunks(of_chunk, (x, y, sample_weight, seeds), size, weights, output)
        noised = _noised(found.of_weights, deviation, words, step)
        means = [total / tf.cast(expected, total.dtype) for total in noised]
        if anchors:
            mu, *starts = anchors
            means = [
                mean + tf.cast(mu, mean.dtype) * (weight.value - start)
                for mean, weight, start in zip(means, weights, starts, strict=True)
            ]
        return Gradients(means, found.loss / tf.cast(tf.maximum(count, 1), tf.float32), found.predicted)


def _noised(sums: Sequence[tf.Tensor], deviation: tf.Tensor, words: tf.Tensor, step: tf.Tensor) -> list[tf.Tensor]:
    """The sums, each number with Gaussian noise of its own: one draw a step, cut into the weights' shapes."""
    sizes = [int(total.shape.num_elements()) for total in sums]
    integers = _integers(words, step, _NOISE, [3, -(-sum(sizes) // 2)], tf.int32)
    parts = tf.split(_normal(integers)[: sum(sizes)] * deviation, sizes)
    return [
        total + tf.cast(tf.reshape(part, total.shape), total.dtype) for total, part in zip(sums, parts, strict=True)
    ]


def _normal(integers: tf.Tensor) -> tf.Tensor:
    """Normal numbers, float32 (2 n,), of random int32 (3, n): Box and Muller 1958, with 62 bits for the radius.

    TensorFlow's own normal numbers end at 5.68 deviations, which would show what no noise can hide, with a chance that
    delta has no room for; these end at 9.3, and take less time.
    """
    whole = tf.cast(tf.bitwise.bitwise_and(integers, 2**31 - 1), tf.float32)
    uniform = tf.minimum(1.0, (whole[0] + (whole[1] + 0.5) * 2.0**-31) * 2.0**-31)
    radius, angle = tf.sqrt(-2.0 * tf.math.log(uniform)), whole[2] * (2 * math.pi * 2.0**-31)
    return tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=0)


def _integers(
    words: tf.Tensor, step: tf.Tensor, stream: int, shape: Sequence[int | tf.Tensor], dtype: tf.DType
) -> tf.Tensor:
    """Random integers of all bits, of a stream of this step."""
    counter = _counter(words, step, stream)
    return tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=shape, key=words[:1], counter=counter, alg=PHILOX, dtype=dtype
    )


def _counter(words: tf.Tensor, step: tf.Tensor, stream: int) -> tf.Tensor:
    """Philox's counter of 128 bits: the high half is a stream of a step, the low half counts the numbers in it."""
    high = words[1] + tf.cast(step, tf.uint64) * 2 + stream
    return tf.stack([tf.zeros([], tf.uint64), high])
