"""Which models DP-SGD can train: those that keep nothing of their examples but what gradients make of their weights."""

import keras
import tensorflow as tf

from fedkeras import models
from fedkeras.errors import UserError

ADVICE = "take GroupNormalization or LayerNormalization"


def require_private(model: keras.Model) -> None:
    """Raise UserError, in one line, for a model with BatchNormalization, or with gradients or weights of 16 bits.

    BatchNormalization would run without complaint, and send its statistics unprotected.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            raise UserError(
                f"--mods dp-sgd does not go with BatchNormalization (layer '{layer.name}'), whose statistics come from "
                f"the examples beside the gradients; {ADVICE}"
            )
        if layer.compute_dtype == "float16":
            raise UserError(
                f"--mods dp-sgd does not go with float16 (layer '{layer.name}'): a gradient of one example is too "
                "small or too large for it; take --precision float32 or mixed_bfloat16"
            )
    for weight in model.trainable_variables:
        if weight.dtype not in ("float32", "float64"):
            raise UserError(
                f"--mods dp-sgd needs weights of 32 bits, and '{weight.path}' is {weight.dtype}: noise would be "
                "rounded away; take --precision float32 or mixed_bfloat16"
            )


def require_unchanged(model: keras.Model, x: tf.Tensor) -> None:
    """Raise UserError if a forward pass of x in training assigns anything but random states; nothing is changed."""
    states = {id(state) for state in models.random_states(model)}
    with keras.StatelessScope() as scope:
        model(x, training=True)
    others = [each for each in model.non_trainable_variables if id(each) not in states]
    if changed := [each.path for each in others if scope.get_current_value(each) is not None]:
        raise UserError(
            f"--mods dp-sgd does not go with the layer that holds '{changed[0]}', which training changes beside the "
            f"gradients, unprotected; leave that layer out (of normalising layers, {ADVICE})"
        )
