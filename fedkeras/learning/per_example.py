"""Each example's own gradient, clipped, and their sum: by running the model on each example alone, vectorised.

Abadi et al., Deep Learning with Differential Privacy, CCS 2016, arXiv:1607.00133, algorithm 1:

    g_i  =  grad L(w, x_i)          over all trainable arrays together
    sum_i  g_i / max(1, ||g_i|| / C)

This way takes nearly any model, since no example meets another one in it; `layer_gradients` is the faster one. An
example whose gradient is not finite counts as none, for a sum that is not finite would tell about it.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from fedkeras.errors import UserError, reason_of
from fedkeras.learning.objectives import only_output

MEGABYTES = 128
"""What the gradients of the examples that are worked on at once may take; more is not faster."""
MOST = 256
"""Examples at once."""


class GradientSum(NamedTuple):
    """Of a batch: the sum of the clipped gradients, one tensor a weight; of their losses; and the model's output."""

    of_weights: list[tf.Tensor]
    loss: tf.Tensor
    predicted: tf.Tensor


class Chunk(NamedTuple):
    """Of some examples of a batch: the sum of the clipped gradients, one tensor a weight; each loss; each output."""

    of_weights: list[tf.Tensor]
    losses: tf.Tensor
    predicted: tf.Tensor


def in_chunks(
    of_chunk: Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], Chunk],
    examples: Sequence[tf.Tensor],
    size: int,
    weights: Sequence[keras.Variable],
    output: tf.TensorShape,
) -> GradientSum:
    """`of_chunk` over the rows of `examples` (tensors of as many rows), `size` at a time; of no rows, zeros.

    `output` is the shape of the model's output, with the examples first.
    """
    count = tf.shape(examples[0])[0]
    rest = output[1:]

    def one(
        first: tf.Tensor, sums: list[tf.Tensor], loss: tf.Tensor, outputs: tf.TensorArray
    ) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor, tf.TensorArray]:
        found = of_chunk(*(each[first : first + size] for each in examples))
        added = [total + tf.cast(more, total.dtype) for total, more in zip(sums, found.of_weights, strict=True)]
        loss = loss + tf.reduce_sum(tf.cast(found.losses, tf.float32))
        return first + size, added, loss, outputs.write(first // size, tf.cast(found.predicted, tf.float32))

    kept = tf.TensorArray(
        tf.float32, 0, True, infer_shape=False, element_shape=tf.TensorShape([None]).concatenate(rest)
    )
    start = tf.constant(0), [tf.zeros(each.shape, each.dtype) for each in weights], tf.constant(0.0), kept
    _, sums, loss, outputs = tf.while_loop(lambda first, *_: first < count, one, start, parallel_iterations=1)
    return GradientSum(sums, loss, outputs.concat())


def chunk_of_any(
    model: keras.Model, weights: Sequence[keras.Variable], clip: tf.Tensor, states: Sequence[keras.Variable]
) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], Chunk]:
    """A function of x, y, sample weights and random states (examples, states, 2), which gives each example its own.

    `states` are those of the model's seed generators: with a state of its own an example has its own Dropout mask.
    """

    values = [tf.convert_to_tensor(weight.value) for weight in weights]

    def of_one(one: tuple[tf.Tensor, ...]) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        x, y, weight, seeds = one
        own = [*zip(weights, values, strict=True), *((state, seeds[i]) for i, state in enumerate(states))]
        scope = keras.StatelessScope(collect_losses=True, state_mapping=own)  # or what layers add to the loss is lost
        with scope, tf.GradientTape() as tape:
            tape.watch(values)
            predicted = model(x[None], training=True)
            loss = model.compute_loss(x[None], y[None], predicted, weight[None], training=True)
        found = tape.gradient(loss, values, unconnected_gradients="zero")
        return [tf.convert_to_tensor(each) for each in found], loss, only_output(predicted)[0]

    def of_chunk(x: tf.Tensor, y: tf.Tensor, sample_weight: tf.Tensor, seeds: tf.Tensor) -> Chunk:
        try:
            with quiet():
                each, losses, predicted = tf.vectorized_map(of_one, (x, y, sample_weight, seeds))
        except (TypeError, ValueError, NotImplementedError) as error:
            raise UserError(
                f"the model's gradient for each example cannot be computed ({reason_of(error)[:200]}); of layers that "
                "go along a sequence, make LSTM, GRU and SimpleRNN with unroll=True"
            ) from error
        flat = [tf.reshape(gradient, [tf.shape(x)[0], -1]) for gradient in each]
        squares = tf.add_n([tf.reduce_sum(tf.square(tf.cast(rows, tf.float32)), axis=1) for rows in flat])
        factors, finite = clipping_factors(squares, clip)
        kept = [without_the_infinite(rows, finite) for rows in flat]
        sums = [
            tf.reshape(tf.linalg.matvec(rows, tf.cast(factors, rows.dtype), transpose_a=True), weight.shape)
            for rows, weight in zip(kept, weights, strict=True)
        ]
        return Chunk(sums, losses, predicted)

    return of_chunk


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """While something is vectorised: TensorFlow warns of each operation that it must loop over, which costs time."""
    log = logging.getLogger("tensorflow")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def clipping_factors(squares: tf.Tensor, clip: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """By what each example's gradient is multiplied, from its squared norm (examples,); and whether that is finite."""
    finite = tf.math.is_finite(squares)
    return tf.where(finite, tf.minimum(1.0, clip / tf.sqrt(tf.maximum(squares, 1e-30))), 0.0), finite


def without_the_infinite(rows: tf.Tensor, finite: tf.Tensor) -> tf.Tensor:
    """The rows with zeros in those that are not `finite`, which a factor of 0 would make to NaN."""
    mask = tf.reshape(finite, tf.concat([tf.shape(finite), tf.ones(tf.rank(rows) - 1, tf.int32)], 0))
    return tf.cond(tf.reduce_all(finite), lambda: rows, lambda: tf.where(mask, rows, tf.zeros_like(rows)))


def chunk_size(numbers: int) -> int:
    """How many examples are worked on at once, of which each takes so many numbers of 32 bits."""
    return max(1, min(MOST, MEGABYTES * 1_000_000 // (4 * max(1, numbers))))
