"""Each example's own gradient, clipped, and their sum: layer by layer, from one pass over all examples together.

I. Goodfellow, "Efficient Per-Example Gradient Computations", 2015, arXiv:1510.01799: of a dense layer z = a W + b the
gradient of example i is a_i g_i^T with g = dL/dz, so its norm is ||a_i|| ||g_i||, and nothing of its size is stored.
G. Rochette, A. Manoel, E. Tramel, "Efficient Per-Example Gradient Computations in Convolutional Neural Networks", 2019,
arXiv:1912.06015: of a convolution it is the product of the input's patches with g. Z. Bu, Y. Wang, S. Zha, G. Karypis,
"Differentially Private Optimization on Large Model at Small Cost", ICML 2023, arXiv:2210.00038: a and g are kept from
one pass, so that the weighted sum needs no second one.

All examples go through the model together, so this is for layers of which it is known that no example meets another in
them; for any other model `per_example` is the way. Masks of Dropout differ by example, as in any batch.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf
from keras import layers

from fedkeras.learning.objectives import only_output
from fedkeras.learning.per_example import Chunk, clipping_factors, quiet, without_the_infinite

APART = {
    "InputLayer", "Dense", "Conv1D", "Conv2D", "Conv3D", "DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D",
    "SeparableConv2D", "Embedding", "MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "AveragePooling1D",
    "AveragePooling2D", "AveragePooling3D", "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D",
    "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D", "Flatten", "Reshape", "Permute",
    "RepeatVector", "Activation", "ReLU", "LeakyReLU", "ELU", "PReLU", "Softmax", "Dropout", "SpatialDropout1D",
    "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "ZeroPadding1D", "ZeroPadding2D", "Cropping1D",
    "Cropping2D", "UpSampling1D", "UpSampling2D", "LayerNormalization", "GroupNormalization", "Rescaling",
    "Normalization", "Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate", "Identity",
}  # fmt: skip
"""Keras' layers in which no example meets another one, by name; along which axis they work is looked at as well."""


class LayerGradients(NamedTuple):
    """Of one layer: each example's squared norm (examples,), and the gradients' sum weighted by factors (examples,)."""

    squares: tf.Tensor
    weighted: Callable[[tf.Tensor], list[tf.Tensor]]


def takes(model: keras.Model, weights: Sequence[keras.Variable]) -> bool:
    """Whether the model is made of layers that are known here, each used once, and its loss is Keras' own affair."""
    known = (type(model) is keras.Sequential and model.built) or type(model).__name__ == "Functional"
    if not known:
        return False
    if type(model).compute_loss is not keras.Model.compute_loss or model.losses:
        return False
    if not isinstance(_graph(model)._outputs_struct, keras.KerasTensor):  # an output with a name
        return False
    found = _graph(model).operations
    owned = [id(weight) for layer in found for weight in getattr(layer, "trainable_variables", ())]
    return all(map(_is_apart, found)) and sorted(owned) == sorted(map(id, weights))


def chunk_by_layers(
    model: keras.Model, weights: Sequence[keras.Variable], clip: tf.Tensor, states: Sequence[keras.Variable]
) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], Chunk]:
    """A function of x, y, sample weights and random states, as `per_example.chunk_of_any` gives; see `takes`."""

    def loss_of_one(one: tuple[tf.Tensor, ...]) -> tf.Tensor:
        x, y, predicted, weight = one
        return model.compute_loss(x[None], y[None], predicted[None], weight[None], training=True)

    def of_chunk(x: tf.Tensor, y: tf.Tensor, sample_weight: tf.Tensor, seeds: tf.Tensor) -> Chunk:
        kept: list[tuple[layers.Layer, tf.Tensor, tf.Tensor]] = []
        own = [(state, seeds[0, i]) for i, state in enumerate(states)]
        with keras.StatelessScope(state_mapping=own), tf.GradientTape() as tape, quiet():
            predicted = only_output(_forward(model, x, kept))
            losses = tf.vectorized_map(loss_of_one, (x, y, predicted, sample_weight))
            total = tf.reduce_sum(losses)
        outputs = [output for _, _, output in kept]
        found = [tf.convert_to_tensor(g) for g in tape.gradient(total, outputs, unconnected_gradients="zero")]
        each = [_of_layer(layer, given, g) for (layer, given, _), g in zip(kept, found, strict=True)]
        factors, finite = clipping_factors(tf.add_n([one.squares for one in each]), clip)
        by_weight = {}
        for (layer, given, _), g, one in zip(kept, found, each, strict=True):
            sums = tf.cond(
                tf.reduce_all(finite),
                lambda one=one: one.weighted(factors),
                # An input that is not finite would make the others' sum NaN as well, whatever its factor is
                lambda layer=layer, given=given, g=g: _of_layer(
                    layer, without_the_infinite(given, finite), without_the_infinite(g, finite)
                ).weighted(factors),
            )
            by_weight |= dict(zip(map(id, layer.trainable_variables), sums, strict=True))
        return Chunk([by_weight[id(weight)] for weight in weights], losses, predicted)

    return of_chunk


def numbers_an_example(model: keras.Model) -> int:
    """How many numbers an example takes on its way, by which a chunk's size is chosen."""
    total = 0
    for layer in _graph(model).operations:
        size = sum(math.prod(weight.shape) for weight in getattr(layer, "trainable_variables", ()))
        if type(layer) in (layers.Conv1D, layers.Conv2D):
            places = math.prod(each or 1 for each in layer.output.shape[1:]) // layer.filters
            total += size + places * math.prod(layer.kernel.shape[:-1])
        elif type(layer) is not layers.Dense or len(layer.input.shape) > 2:
            total += size
    return total


def _graph(model: keras.Model) -> keras.Model:
    """The layers and how they are connected."""
    return model._functional if isinstance(model, keras.Sequential) else model


def _is_apart(layer: keras.Operation) -> bool:
    named = getattr(layer, "axis", -1)
    rank = len(layer.output.shape) if layer._inbound_nodes else 0
    axes = [axis + rank if axis < 0 else axis for axis in (named if isinstance(named, list | tuple) else [named])]
    activation = getattr(layer, "activation", None)
    return (
        type(layer).__name__ in APART
        and type(layer) is getattr(layers, type(layer).__name__, None)
        and layer.compute_dtype == "float32"
        and layer.activity_regularizer is None
        and len(layer.trainable_variables) in (0, len(layer.weights))
        and (not layer.trainable_variables or len(layer._inbound_nodes) == 1)
        and min(axes) > 0
        and (activation is None or _is_of_keras(activation))
        and getattr(layer, "quantization_mode", None) is None
        and not getattr(layer, "lora_enabled", False)
        and not getattr(layer, "mask_zero", False)
    )


def _is_of_keras(activation: object) -> bool:
    """A function of Keras' own list: each takes an example's numbers alone. A layer may go along any axis."""
    return inspect.isfunction(activation) and activation.__module__.startswith("keras.src.activations.")


def _forward(
    model: keras.Model, x: tf.Tensor, kept: list[tuple[layers.Layer, tf.Tensor, tf.Tensor]]
) -> tf.Tensor | list[tf.Tensor]:
    """The model's output in training; of each layer that is trained, its input and what its weights have made of it."""

    def operation(layer: keras.Operation) -> Callable[..., tf.Tensor]:
        if not getattr(layer, "trainable_variables", ()):
            return lambda *given, **more: layer(*given, **{**more, **_training(layer)})

        def applied(given: tf.Tensor) -> tf.Tensor:
            linear = _LINEAR.get(type(layer))
            output = tf.identity(linear(layer, given) if linear else layer(given, **_training(layer)))
            kept.append((layer, given, output))
            return layer.activation(output) if linear and layer.activation is not None else output

        return applied

    graph = _graph(model)
    return graph._run_through_graph(graph._standardize_inputs(x), operation_fn=operation)


def _training(layer: keras.Operation) -> dict[str, bool]:
    return {"training": True} if getattr(layer, "_call_has_training_arg", False) else {}


def _dense(layer: layers.Dense, given: tf.Tensor) -> tf.Tensor:
    output = keras.ops.matmul(given, layer.kernel)
    return output if layer.bias is None else output + layer.bias


def _convolution(layer: layers.Conv1D | layers.Conv2D, given: tf.Tensor) -> tf.Tensor:
    padding = layer.padding
    if padding == "causal":
        given, padding = keras.ops.pad(given, layer._compute_causal_padding()), "valid"
    output = keras.ops.conv(given, layer.kernel, list(layer.strides), padding, layer.data_format, layer.dilation_rate)
    return output + layer.bias if layer.use_bias else output


_LINEAR = {layers.Dense: _dense, layers.Conv1D: _convolution, layers.Conv2D: _convolution}
"""What a layer does before its activation."""


def _of_layer(layer: layers.Layer, given: tf.Tensor, g: tf.Tensor) -> LayerGradients:
    """`given` is the layer's input, `g` the loss's gradient by what its weights have made of it, (examples, ...)."""
    if type(layer) is layers.Dense and given.shape.rank == 2:
        return _of_dense(layer, given, g)
    if type(layer) is layers.Dense:
        rows = [tf.reshape(each, [tf.shape(each)[0], -1, each.shape[-1]]) for each in (given, g)]
        return _of_products(layer, *rows)
    if type(layer) in _LINEAR and layer.data_format == "channels_last" and layer.groups == 1:
        return _of_products(layer, _patches(layer, given), tf.reshape(g, [tf.shape(g)[0], -1, layer.filters]))
    return _of_any_layer(layer, given, g)


def _of_dense(layer: layers.Dense, a: tf.Tensor, g: tf.Tensor) -> LayerGradients:
    of_bias = layer.bias is not None
    squares = tf.reduce_sum(tf.square(g), axis=1) * (tf.reduce_sum(tf.square(a), axis=1) + float(of_bias))

    def weighted(factors: tf.Tensor) -> list[tf.Tensor]:
        scaled = g * factors[:, None]
        return [tf.matmul(a, scaled, transpose_a=True)] + [tf.reduce_sum(scaled, axis=0)] * of_bias

    return LayerGradients(squares, weighted)


def _of_products(layer: layers.Layer, a: tf.Tensor, g: tf.Tensor) -> LayerGradients:
    """Of a (examples, places, inputs) and g (examples, places, outputs): one product of matrices an example."""
    each = [tf.matmul(a, g, transpose_a=True)] + [tf.reduce_sum(g, axis=1)] * (layer.bias is not None)
    return _of_each(each, layer.trainable_variables)


def _of_any_layer(layer: layers.Layer, given: tf.Tensor, g: tf.Tensor) -> LayerGradients:
    """The layer once more for each example, vectorised: normalisations and the like, which cost little."""
    weights = layer.trainable_variables
    values = [tf.convert_to_tensor(weight.value) for weight in weights]

    def of_one(one: tuple[tf.Tensor, tf.Tensor]) -> list[tf.Tensor]:
        own_input, own_g = one
        with keras.StatelessScope(state_mapping=list(zip(weights, values, strict=True))), tf.GradientTape() as tape:
            tape.watch(values)
            output = layer(own_input[None], **_training(layer))
        found = tape.gradient(output, values, output_gradients=own_g[None], unconnected_gradients="zero")
        return [tf.convert_to_tensor(each) for each in found]

    with quiet():
        return _of_each(tf.vectorized_map(of_one, (given, g)), weights)


def _of_each(each: Sequence[tf.Tensor], weights: Sequence[keras.Variable]) -> LayerGradients:
    """Of gradients that are there for each example."""
    rows = [tf.reshape(gradient, [tf.shape(gradient)[0], -1]) for gradient in each]
    squares = tf.add_n([tf.reduce_sum(tf.square(gradient), axis=1) for gradient in rows])

    def weighted(factors: tf.Tensor) -> list[tf.Tensor]:
        return [
            tf.reshape(tf.linalg.matvec(gradient, factors, transpose_a=True), weight.shape)
            for gradient, weight in zip(rows, weights, strict=True)
        ]

    return LayerGradients(squares, weighted)


def _patches(layer: layers.Conv1D | layers.Conv2D, given: tf.Tensor) -> tf.Tensor:
    """What the kernel sees at each of its places, (examples, places, numbers of the kernel's window)."""
    padding = layer.padding
    if padding == "causal":
        given, padding = tf.pad(given, layer._compute_causal_padding()), "valid"
    size, strides, rates = (list(each) for each in (layer.kernel_size, layer.strides, layer.dilation_rate))
    if len(size) == 1:
        given, size, strides, rates = given[:, None], [1, *size], [1, *strides], [1, *rates]
    found = tf.image.extract_patches(given, [1, *size, 1], [1, *strides, 1], [1, *rates, 1], padding.upper())
    return tf.reshape(found, [tf.shape(given)[0], -1, found.shape[-1]])
