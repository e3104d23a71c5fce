"""One part of a model, trained by a gradient that comes later and from elsewhere: forward and backward are apart.

Backward is had in two ways. `forward` with a key keeps a gradient tape over the compiled graph until `backward`, and
nothing is computed twice. Where a process does not live so long, `backward_again` computes the forward pass once more
in the graph of the gradient, from the same input and random states, and without touching BatchNorm's statistics again.
While no update of the part comes between, both give the same. If one does (several batches in flight), the tape's
gradient is that of the weights at forward, the other's that of the weights at backward.

Where the part allows it (`two_step_gradient`), three graphs take the tape's place, and the gradients of the weights are
left to `update`.
"""

import contextlib
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager

import keras
import numpy as np
import tensorflow as tf

from fedkeras import models
from fedkeras.learning.optimizers import build_fresh, make_fresh, require_separable
from fedkeras.learning.two_step_gradient import CannotBeCut, TwoStepGradient

_NAME = "FedkerasMaxPoolAgain"


def pooled_again() -> AbstractContextManager:
    """While a graph is traced in this context, its max pools get a faster gradient, for one that is another graph.

    oneDNN's max pool notes where each maximum was, for its own gradient. That works within one graph; where the
    gradient is in another, TensorFlow on a CPU falls back on code that was measured twelve times slower (7.9 ms for
    0.9, 64x28x28x32, one thread), half of a head's backward pass. To pool once more beside the gradient costs little,
    and makes a pair again.
    """
    return tf.compat.v1.get_default_graph().gradient_override_map({"MaxPool": _NAME})


@tf.RegisterGradient(_NAME)
def _gradient(op: tf.Operation, gradient: tf.Tensor) -> tf.Tensor:
    how = {name: op.get_attr(name) for name in ("ksize", "strides", "padding", "explicit_paddings", "data_format")}
    how["padding"] = how["padding"].decode()
    how["data_format"] = how["data_format"].decode()
    again = tf.raw_ops.MaxPool(input=op.inputs[0], **how)
    return tf.raw_ops.MaxPoolGrad(orig_input=op.inputs[0], orig_output=again, grad=gradient, **how)


Term = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""Of a part's input and output: a scalar."""


class Segment:
    """A part of a model, its optimizer, and the batches that wait for their gradient.

    `term(x, output)`, a scalar, is added to what the part minimises, as its regularisation terms are. With
    `gradient_of_input`, backward returns what the part before needs. The arrays may be numpy's or tensors.
    """

    def __init__(
        self,
        part: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        *,
        gradient_of_input: bool,
        term: Term | None = None,
    ) -> None:
        require_separable(optimizer)
        self.part, self.optimizer = part, optimizer
        self.states = models.random_states(part)
        self.variables = [*part.variables]
        self._weights = part.trainable_variables
        self._fresh = build_fresh(optimizer, self._weights)
        self.variables += optimizer.variables
        self._term = term or (lambda x, output: tf.constant(0.0))
        self._gradient_of_input = gradient_of_input
        self._kept: dict[Hashable, tuple] = {}
        self._due: Callable[[], list[tf.Tensor]] | None = None
        takes, gives, seeds = (
            spec(part.inputs[0]),
            spec(part.outputs[0]),
            tf.TensorSpec([len(self.states), 2], "uint32"),
        )
        self._forward = compiled(self._run, takes)
        self._test = compiled(self._run_test, takes)
        self._again = compiled(self._run_again, takes, gives, seeds)
        self._two_steps: TwoStepGradient | None = None
        if gradient_of_input and self._weights and not part.non_trainable_variables:
            with contextlib.suppress(CannotBeCut):
                weights = [weight.value for weight in self._weights]
                self._two_steps = TwoStepGradient(self._run, takes, gives, weights)
        # Gradients of an embedding have as many rows as a batch has words, so there is no one signature.
        self._apply = tf.function(self._run_apply, autograph=False, jit_compile=False, reduce_retracing=True)

    def start(self) -> None:
        """Make the optimizer new, and forget the batches in flight."""
        self._kept.clear()
        self._due = None
        make_fresh(self._fresh)

    def seeds(self) -> np.ndarray:
        """The random states (states, 2) as they stand; taken before forward, they are what `backward_again` needs."""
        return np.array([state.numpy() for state in self.states], np.uint32).reshape(-1, 2)

    def set_seeds(self, values: np.ndarray | None) -> None:
        """Set the random states; None: they go on from where they stand. Raises ValueError for another number."""
        if values is None:
            return
        values = np.asarray(values, np.uint32).reshape(-1, 2)
        if len(values) != len(self.states):
            raise ValueError(f"{self.part.name} has {len(self.states)} random states, not {len(values)}")
        for state, value in zip(self.states, values, strict=True):
            state.assign(value)

    def forward(
        self, x: np.ndarray | tf.Tensor, seeds: np.ndarray | None = None, key: Hashable | None = None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return the output in training mode, the regularisation terms and `term`; with `key`, keep the tape.

        Raises ValueError for an input of another shape and for a key that is in flight already.
        """
        self.set_seeds(seeds)
        x = to_tensor(x, self.part.inputs[0])
        if key is None:
            return self._forward(x)
        if key in self._kept:
            raise ValueError(f"batch {key} is in flight already")
        if self._two_steps:
            results, for_gradient = self._two_steps.forward(x)
            self._kept[key] = for_gradient, x, tuple(results)
            return tuple(results)
        with tf.GradientTape() as tape:
            if self._gradient_of_input:
                tape.watch(x)
            results = self._forward(x)
        self._kept[key] = tape, x, results
        return results

    def backward(self, gradient: np.ndarray | tf.Tensor, key: Hashable) -> tf.Tensor | None:
        """Update the part by the gradient of the loss with respect to the output of batch `key`; return the input's.

        Raises ValueError for an unknown key and for a gradient of another shape than the output had.
        """
        of_input = self.gradient(gradient, key)
        self.update()
        return of_input

    def gradient(self, gradient: np.ndarray | tf.Tensor, key: Hashable) -> tf.Tensor | None:
        """The first half of `backward`: return the gradient of the input, and leave those of the weights to `update`.

        Raises ValueError as `backward` does.
        """
        if key not in self._kept:
            raise ValueError(f"no batch {key} is in flight")
        kept, x, results = self._kept[key]
        gradient = to_tensor(gradient, self.part.outputs[0], len(x))
        del self._kept[key]
        if two_steps := self._two_steps:
            of_input, shared = two_steps.of_input(x, gradient, *kept)
            self._due = lambda: two_steps.of_weights(x, gradient, *kept, *shared)
            return of_input
        gradients = self._gradients(kept, x, [weight.value for weight in self._weights], results, gradient)
        self._due = lambda: gradients[1:]
        return gradients[0]

    def update(self) -> None:
        """The second half: update the part. To be called before anything else is done with it."""
        due, self._due = self._due, None
        if due and self._weights:
            self._apply(due())

    def backward_again(
        self, x: np.ndarray | tf.Tensor, gradient: np.ndarray | tf.Tensor, seeds: np.ndarray
    ) -> tf.Tensor | None:
        """The same for a batch `x` that nothing is kept of; `seeds` are the random states its forward began with."""
        x = to_tensor(x, self.part.inputs[0])
        gradient = to_tensor(gradient, self.part.outputs[0], len(x))
        result = self._again(x, gradient, tf.constant(np.asarray(seeds, np.uint32).reshape(-1, 2)))
        return result if self._gradient_of_input else None

    def test(self, x: np.ndarray | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the output as in prediction, and the regularisation terms."""
        return self._test(to_tensor(x, self.part.inputs[0]))

    def in_flight(self) -> list[Hashable]:
        """Keys of the batches that wait for their gradient, the oldest first."""
        return list(self._kept)

    def forget(self, key: Hashable) -> None:
        """Drop a batch whose gradient will not come."""
        self._kept.pop(key, None)

    def finalize(self) -> None:
        """Put averaged weights in at the end of a training, where the optimizer keeps such (`use_ema`)."""
        self.optimizer.finalize_variable_values(self._weights)

    def _run(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        if not self._gradient_of_input:
            # A tape's backward graph has the gradients of all that the forward graph takes, wanted or not.
            x = tf.stop_gradient(x)
        with pooled_again():
            output = self.part(x, training=True)
        return output, penalty(self.part.losses), self._term(x, output)

    def _run_test(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        output = self.part(x, training=False)
        return output, penalty(self.part.losses)

    def _run_again(self, x: tf.Tensor, gradient: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        states = {id(state): seeds[i] for i, state in enumerate(self.states)}
        weights = [tf.convert_to_tensor(weight) for weight in self._weights]
        others = [states.get(id(v), v.value) for v in self.part.non_trainable_variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([*weights, *([x] if self._gradient_of_input else [])])
            output, _, losses = self.part.stateless_call(weights, others, x, training=True, return_losses=True)
            results = output, penalty(losses), self._term(x, output)
        gradients = self._gradients(tape, x, weights, results, gradient)
        if self._weights:
            self._run_apply(gradients[1:])
        return gradients[0] if self._gradient_of_input else tf.constant(0)

    def _gradients(
        self,
        tape: tf.GradientTape,
        x: tf.Tensor,
        weights: list[tf.Tensor],
        results: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
        gradient: tf.Tensor,
    ) -> list[tf.Tensor | None]:
        """The gradient of the input, or None, and those of the weights."""
        sources = [*([x] if self._gradient_of_input else []), *weights]
        one = tf.constant(1.0)
        found = tape.gradient(results, sources, output_gradients=[gradient, one, one])
        return found if self._gradient_of_input else [None, *found]

    def _run_apply(self, gradients: list[tf.Tensor]) -> None:
        self.optimizer.apply_gradients(zip(gradients, self._weights, strict=True))


Traced = Callable[..., list[tf.Tensor]]
"""A function of tensors, as TensorFlow traces it."""


def compiled(function: Traced, *signature: tf.TensorSpec) -> Traced:
    """`function` as one graph for any number of examples."""
    return tf.function(function, input_signature=signature, autograph=False, jit_compile=False)


def spec(tensor: keras.KerasTensor) -> tf.TensorSpec:
    """What a graph takes in place of `tensor`."""
    return tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)


def to_tensor(array: np.ndarray | tf.Tensor, like: keras.KerasTensor, length: int | None = None) -> tf.Tensor:
    """Return `array` in the dtype of `like`. Raises ValueError for another shape, or other than `length` examples."""
    wanted, shape = (length, *like.shape[1:]), tuple(np.shape(array))
    if len(shape) != len(wanted) or any(size not in (None, own) for size, own in zip(wanted, shape, strict=True)):
        raise ValueError(f"an array has shape {shape}; it must be {wanted}, where None is any size")
    if tf.is_tensor(array):
        return tf.cast(array, like.dtype)
    return tf.convert_to_tensor(np.asarray(array, tf.as_dtype(like.dtype).as_numpy_dtype))


def penalty(losses: list[tf.Tensor]) -> tf.Tensor:
    """The sum of a part's own terms of the loss: regularisation of weights and of activations."""
    return tf.add_n([tf.cast(tf.reduce_sum(loss), "float32") for loss in losses]) if losses else tf.constant(0.0)
