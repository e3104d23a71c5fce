"""NoPeek's measure of how much of the input is left in what leaves the client.

P. Vepakomma, A. Singh, O. Gupta, R. Raskar, "NoPeek: Information leakage reduction to share activations in distributed
deep learning", ICDMW 2020, arXiv:2008.09161. The client minimises `alpha * DCOR(x, activations) + loss`; the first term
reaches the head alone. Distance correlation: G. J. Szekely, M. L. Rizzo, N. K. Bakirov, Annals of Statistics 35(6),
2007.
"""

import tensorflow as tf


def distance_correlation(x: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
    """The distance correlation of a batch of x and z (examples, ...): float32 from 0, independent, to 1.

    It is that of the batch: the smaller the batch, the larger. 0 for a single example, or if all are alike.
    """
    a, b = _centred(x), _centred(z)
    covariance, of_x, of_z = (tf.maximum(tf.reduce_mean(product), 0.0) for product in (a * b, a * a, b * b))
    return tf.cast(_root(covariance / tf.maximum(_root(of_x * of_z), 1e-30)), tf.float32)


def _centred(x: tf.Tensor) -> tf.Tensor:
    """Distances between examples, with the means of rows and columns taken off: (examples, examples) float64."""
    # In float64, for the distances are differences of large products.
    flat = tf.reshape(tf.cast(x, tf.float64), [tf.shape(x)[0], -1])
    squares = tf.reduce_sum(flat * flat, axis=1)
    squared = squares[:, None] + squares[None, :] - 2.0 * tf.matmul(flat, flat, transpose_b=True)
    distances = _root(tf.linalg.set_diag(squared, tf.zeros_like(squares)))
    rows = tf.reduce_mean(distances, axis=0)
    return distances - rows[:, None] - rows[None, :] + tf.reduce_mean(rows)


def _root(x: tf.Tensor) -> tf.Tensor:
    """The square root, with gradient 0, not infinite, where x is 0 (an example's distance to itself) or just below."""
    positive = x > 1e-24
    return tf.where(positive, tf.sqrt(tf.where(positive, x, tf.ones_like(x))), tf.zeros_like(x))
