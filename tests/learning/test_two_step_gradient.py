"""The gradients of a part in two steps are the tape's to the bit, and the first step does not wait for the second."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from fedkeras.learning import two_step_gradient
from fedkeras.learning.segment import Segment
from fedkeras.learning.two_step_gradient import CannotBeCut


def convolutional() -> keras.Model:
    """Everything that a body usually has, a regularised weight too."""
    keras.utils.set_random_seed(3)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(3, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(4, activation="relu", kernel_regularizer="l2"),
        ]
    )


def segment(part: keras.Model) -> Segment:
    """A body."""
    return Segment(part, keras.optimizers.SGD(0.1), gradient_of_input=True)


def two_batches_in_flight(own: Segment) -> list[np.ndarray]:
    """The inputs' gradients of two batches, the second of fewer examples, both forward before either's update."""
    rng = np.random.default_rng(0)
    batches = [rng.normal(size=(size, 6, 6, 2)).astype("float32") for size in (5, 3)]
    for key, batch in enumerate(batches):
        own.forward(batch, key=key)
    found = []
    for key, batch in enumerate(batches):
        found.append(own.gradient(rng.normal(size=(len(batch), 4)).astype("float32"), key))
        own.update()
    return [np.asarray(array) for array in [*found, *own.part.trainable_variables]]


def test_it_gives_the_tapes_bits_with_updates_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    in_two, with_tape = segment(convolutional()), segment(convolutional())
    assert in_two._two_steps
    monkeypatch.setattr(with_tape, "_two_steps", None)
    for own, other in zip(two_batches_in_flight(in_two), two_batches_in_flight(with_tape), strict=True):
        np.testing.assert_array_equal(own, other)


def test_the_first_step_computes_nothing_for_the_weights() -> None:
    cut = segment(convolutional())._two_steps
    kinds = [{op.type for op in _alive(graph)} for graph in (cut.forward, cut.of_input, cut.of_weights)]
    conv_input, conv_weights = "Conv2DBackpropInput", "Conv2DBackpropFilter"
    assert [sorted(kind & {"Conv2D", conv_input, conv_weights}) for kind in kinds] == [
        ["Conv2D"],
        [conv_input],
        [conv_weights],
    ]


def _alive(function: tf.types.experimental.PolymorphicFunction) -> list[tf.Operation]:
    """The operations of the one function within it that its outputs depend on: TensorFlow drops the rest."""
    outer = function.get_concrete_function().graph
    (call,) = [op for op in outer.get_operations() if "PartitionedCall" in op.type]
    inner = outer._get_function(call.get_attr("f").name).graph
    found, waiting = {}, [tensor.op for tensor in inner.outputs]
    while waiting:
        op = waiting.pop()
        if op.name not in found:
            found[op.name] = op
            waiting.extend(tensor.op for tensor in op.inputs)
    return list(found.values())


@pytest.mark.parametrize(
    "layer",
    [
        lambda: keras.layers.BatchNormalization(),
        lambda: keras.layers.Dropout(0.5),
        lambda: keras.layers.LSTM(3),
        lambda: keras.layers.Embedding(5, 3),
    ],
)
def test_a_part_with_effects_of_its_own_keeps_its_tape(layer: Callable[[], keras.layers.Layer]) -> None:
    own = segment(keras.Sequential([keras.Input((4, 2)), keras.layers.Dense(2), layer(), keras.layers.Dense(2)]))
    assert own._two_steps is None


def test_why_a_part_cannot_be_cut() -> None:
    weight, spec = tf.Variable(2.0), tf.TensorSpec([None])
    zero = tf.constant(0.0)

    def random(x: tf.Tensor) -> two_step_gradient.Results:
        return x * weight + tf.random.normal(tf.shape(x)), zero, zero

    with pytest.raises(CannotBeCut, match="RandomStandardNormal"):
        two_step_gradient.TwoStepGradient(random, spec, spec, [weight])
    with pytest.raises(CannotBeCut, match="a weight without a gradient"):
        two_step_gradient.TwoStepGradient(lambda x: (x * 2, zero, zero), spec, spec, [weight])
    assign = lambda x: (x * weight.assign_add(1.0), zero, zero)  # noqa: E731
    with pytest.raises(CannotBeCut):
        two_step_gradient.TwoStepGradient(assign, spec, spec, [weight])
