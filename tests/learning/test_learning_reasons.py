"""TensorFlow's and Keras' own reasons, out of the pages around them: real errors, raised here."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fedkeras.errors import describe, reason_of

ANY = [tf.TensorSpec((None, None))] * 2


@tf.function(input_signature=ANY)
def subtract(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return a - b


@tf.function(input_signature=ANY, jit_compile=True)
def multiply(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return tf.matmul(a, b)


@tf.function(input_signature=[tf.TensorSpec((None,), tf.int32), tf.TensorSpec((None, None))])
def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


@tf.function
def subtract_as_known(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return a - b


class Own(keras.layers.Layer):
    def call(self, x: tf.Tensor) -> tf.Tensor:
        raise RuntimeError("a layer of my own\nbreaks")


def fit_with_labels(y: np.ndarray) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(np.zeros((2, 4), "float32"), y, verbose=0)


WIDE, NARROW = tf.zeros((16, 10)), tf.zeros((16, 3))
CASES = {
    "graph": (lambda: subtract(WIDE, NARROW), "Incompatible shapes: [16,10] vs. [16,3]"),
    "in user code": (lambda: subtract_as_known(WIDE, NARROW), "Dimensions must be equal, but are 10 and 3 for "),
    "xla": (lambda: multiply(WIDE, NARROW), "Matrix size-incompatible: In[0]: [16,10], In[1]: [16,3]"),
    "eager": (lambda: tf.matmul(WIDE, NARROW), "Matrix size-incompatible: In[0]: [16,10], In[1]: [16,3]"),
    "label": (
        lambda: fit_with_labels(np.array([1, 7])),
        "Received a label value of 7 which is outside the valid range ",
    ),
    "logits": (
        lambda: cross_entropy(tf.zeros((4,), tf.int32), tf.zeros((3, 2))),
        "logits and labels must have the same first dimension, got logits shape [3,2] and labels shape [4]",
    ),
    "keras": (
        lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])(np.zeros((2, 5))),
        "Input 0 with name 'None' of layer 'dense",
    ),
    "own layer": (lambda: keras.Sequential([keras.Input((4,)), Own()]), "a layer of my own breaks (in Own.call())"),
}


@pytest.mark.parametrize("kind", CASES)
def test_the_reason_comes_first_and_no_frames_with_it(kind: str) -> None:
    raises, begins = CASES[kind]
    with pytest.raises(Exception) as raised:  # of many types
        raises()
    line, reason = describe(raised.value), reason_of(raised.value)
    assert reason.startswith(begins), reason
    assert line.startswith(f"{type(raised.value).__name__}: {reason[:60]}") and "\n" not in line
    for noise in (
        "File ",
        "Detected at",
        "Arguments received",
        "execution error",
        "function_node",
        "[Op:",
        "\x1b",
        "TF_DUMP",
    ):
        assert noise not in line
    assert len(line) < 560 and "(execute.py" not in line


def test_of_several_root_errors_the_first() -> None:
    page = (
        "Graph execution error:\n\nDetected at node mul defined at (most recent call last):\n"
        '  File "a.py", line 3, in f\n\n2 root error(s) found.\n'
        "  (0) INVALID_ARGUMENT:  Incompatible shapes: [16,10] vs. [16,3]\n\t [[{{node mul}}]]\n\t [[add/_4]]\n"
        "  (1) INVALID_ARGUMENT:  Incompatible shapes: [16,10] vs. [16,3]\n\t [[{{node mul}}]]\n"
        "0 successful operations.\n0 derived errors ignored. [Op:__inference_f_9]"
    )
    assert reason_of(ValueError(page)) == "Incompatible shapes: [16,10] vs. [16,3]"


def test_out_of_memory() -> None:
    """As TensorFlow says it after ten seconds of trying."""
    place = "/job:localhost/replica:0/task:0/device:CPU:0"
    said = f"OOM when allocating tensor with shape[1099511627776] and type float on {place} by allocator mklcpu"
    wrapped = f"{{{{function_node __wrapped__Fill_device_{place}}}}} {said} [Op:Fill] name: "
    hint = "\nHint: If you want to see a list of allocated tensors when OOM happens, add report_tensor_allocations\n"
    assert reason_of(MemoryError(wrapped)) == reason_of(MemoryError(f"{said}\n\t [[{{{{node a}}}}]]{hint}")) == said


def test_other_words_stay_as_they_are() -> None:
    assert reason_of(ValueError("the disk\n is on fire")) == "the disk is on fire"
    assert reason_of(OSError()) == "OSError" and describe(OSError()) == "OSError: OSError"
    assert reason_of(ValueError("[[1 2]\n [3 4]] is odd")) == "[[1 2] [3 4]] is odd"
    assert reason_of(ValueError("Graph execution error:")) == "Graph execution error:"
