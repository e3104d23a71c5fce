"""The gradient of a part's input first, and those of its weights later: the first is waited for, the others are not.

In split learning a client waits for the gradient of the body's input, while the body's own update can be made when that
is on its way. Back-propagation (Rumelhart, Hinton & Williams, 1986) allows it: the gradient of a layer's weights is
taken from what reaches the layer, and nothing before the layer needs it. A gradient tape gives all of them at once,
though. So one trace of forward and backward pass is cut into three graphs: what they hand on (activations, and the
gradients on their way back) are outputs of one and inputs of the next, and nothing is computed twice. The operations
are those of the tape, and so are the bits.
"""

from collections.abc import Callable, Iterable, Sequence

import tensorflow as tf

Tensors = list[tf.Tensor]
Results = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


class CannotBeCut(Exception):
    """The trace has operations that may not be parted: with an effect of their own, or with graphs within them."""


class TwoStepGradient:
    """Three graphs of `run(x)`, which returns (output, scalar, scalar), each scalar's gradient being one.

    `takes` and `gives` specify x and the output's gradient; `weights` are the variables. Raises CannotBeCut for a `run`
    that changes variables (BatchNormalization, the states of dropout), draws random numbers, has loops or branches, or
    does not use each weight by a dense gradient.
    """

    def __init__(
        self,
        run: Callable[[tf.Tensor], Results],
        takes: tf.TensorSpec,
        gives: tf.TensorSpec,
        weights: Sequence[tf.Variable],
    ) -> None:
        found: dict[str, Tensors] = {}
        of_forward: set[str] = set()

        def both(x: tf.Tensor, gradient: tf.Tensor) -> Results:
            results = run(x)
            of_forward.update(op.name for op in x.graph.get_operations())
            one = tf.constant(1.0)
            of_input, *of_weights = tf.gradients(results, [x, *weights], grad_ys=[gradient, one, one])
            found.update(given=[x, gradient], results=[*results], of_input=[of_input], of_weights=of_weights)
            return results

        traced = tf.compat.v1.wrap_function(both, [takes, gives])
        given, results, of_input, of_weights = found.values()
        if not all(tf.is_tensor(tensor) and hasattr(tensor, "op") for tensor in [*of_input, *of_weights]):
            raise CannotBeCut("a weight without a gradient, or with a sparse one")
        _require_plain(traced.graph)

        def is_forward(tensor: tf.Tensor) -> bool:
            return tensor.op.name in of_forward

        _, kept = _back_from([*of_input, *of_weights], is_forward)
        kept = [tensor for tensor in kept if not any(tensor is own for own in given)]
        before, _ = _back_from(of_input, is_forward)
        _, shared = _back_from(of_weights, lambda tensor: is_forward(tensor) or tensor.op.name in before)
        shared = [tensor for tensor in shared if tensor.op.name in before]
        # Alone, a pruned function is run as it stands. Within another TensorFlow optimises it as it does any graph.
        self.forward = _graph(traced.prune(given[:1], [results, kept]), given[:1])
        """x -> results, and what the gradients need."""
        self.of_input = _graph(traced.prune([*given, *kept], [of_input[0], shared]), [*given, *kept])
        """x, the output's gradient, what `forward` kept -> the input's gradient, and what `of_weights` needs of it."""
        self.of_weights = _graph(traced.prune([*given, *kept, *shared], of_weights), [*given, *kept, *shared])
        """The same and what `of_input` left -> the gradients of the weights."""


def _back_from(targets: Iterable[tf.Tensor], stop: Callable[[tf.Tensor], bool]) -> tuple[set[str], Tensors]:
    """The operations that `targets` are computed by, up to tensors where it stops, and these tensors.

    Constants and the variables' handles are no such tensors: each graph has its own.
    """
    seen: set[str] = set()
    border: dict = {}
    waiting = list(targets)
    while waiting:
        tensor = waiting.pop()
        if stop(tensor):
            if tensor.op.type != "Const" and tensor.dtype != tf.resource:
                border[tensor.ref()] = tensor
        elif tensor.op.name not in seen:
            seen.add(tensor.op.name)
            waiting.extend(tensor.op.inputs)
    return seen, list(border.values())


def _require_plain(graph: tf.Graph) -> None:
    """Raise CannotBeCut unless each operation is a function of its inputs, a variable's value at most."""
    for op in graph.get_operations():
        if op.op_def.is_stateful and op.type not in ("Placeholder", "ReadVariableOp"):
            raise CannotBeCut(op.type)
        if any(attribute.type in ("func", "list(func)") for attribute in op.op_def.attr):
            raise CannotBeCut(op.type)


def _graph(function: Callable, inputs: Tensors) -> Callable:
    """`function` of tensors like `inputs`, as a graph of its own."""
    signature = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in inputs]
    return tf.function(lambda *given: function(*given), input_signature=signature, autograph=False, jit_compile=False)
