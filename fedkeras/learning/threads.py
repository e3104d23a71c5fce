"""The number of threads TensorFlow computes with: part of what decides the bits of a result."""

import tensorflow as tf


def limit_threads(n: int) -> None:
    """Let TensorFlow use `n` threads in an operation and run `n` operations at once, in this process.

    To be called before TensorFlow's first operation; again with the same `n` at any time. Raises ValueError for n < 1,
    RuntimeError if TensorFlow has started with another number.
    """
    if n < 1:
        raise ValueError(f"TensorFlow needs at least one thread, not {n}")
    threading = tf.config.threading
    if threading.get_intra_op_parallelism_threads() == n and threading.get_inter_op_parallelism_threads() == n:
        return
    try:
        threading.set_intra_op_parallelism_threads(n)
        threading.set_inter_op_parallelism_threads(n)
    except RuntimeError as error:
        started = threading.get_intra_op_parallelism_threads() or "one thread a core"
        raise RuntimeError(
            f"TensorFlow has already started in this process with threads: {started}; it cannot change to {n}"
        ) from error
