"""Mixed precision: layers compute in bfloat16, weights stay float32.

Keras' policy for new layers does not reach a loaded model, whose layers keep the precision they were saved with. So a
model's configuration is rewritten and the model rebuilt from it: one road for built-in models and for everybody's own.
The output layer computes in float32, as Keras advises: probabilities of eight bits make a poor loss.
"""

import logging
from pathlib import Path

import keras

from fedkeras.errors import UserError
from fedkeras.models.compile_config import compiled_with
from fedkeras.models.file_info import Json

log = logging.getLogger(__name__)

FLOATS = ("float16", "bfloat16", "float32", "float64")
"""What a layer may compute in. Those that look numbers or words up compute in whole numbers, or text, and go on so."""


def with_precision(model: keras.Model, precision: str) -> keras.Model:
    """Return `model` if its layers compute in `precision` already, else a copy with the same weights that does.

    `precision` is float32 or mixed_bfloat16. Raises UserError for a model that Keras cannot rebuild from its
    configuration, as most subclassed ones.
    """
    if precision == "mixed_bfloat16" and not cpu_has_bfloat16():
        log.warning("this processor has no bfloat16 instructions: mixed_bfloat16 will be slower than float32")
    wrong = wrong_layers(model, precision)
    if not wrong:
        return model
    if precision == "float32":
        own = sorted({layer.compute_dtype for layer in wrong})
        log.warning("layers that compute in %s in the model compute in float32 here (--precision)", ", ".join(own))
    try:
        copy = type(model).from_config(_rewritten(model.get_config(), precision, _output_names(model)))
    except (NotImplementedError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"--precision {precision}: Keras cannot rebuild this model from its configuration; "
            f"give its layers dtype='{precision}' where you make them"
        ) from error
    if wrong := wrong_layers(copy, precision):
        raise UserError(f"--precision {precision}: layer '{wrong[0].name}' computes in {wrong[0].compute_dtype}")
    copy.set_weights(model.get_weights())
    for own, its in zip(_leaves(model), _leaves(copy), strict=True):
        if hasattr(own, "get_vocabulary") and list(own.get_vocabulary()) != list(its.get_vocabulary()):
            raise UserError(
                f"--precision {precision}: layer '{own.name}' has learned its vocabulary by adapt(), which a rebuilt "
                "model would not have; make it with vocabulary=layer.get_vocabulary()"
            )
    compiled_with(model).onto(copy)
    return copy


def wrong_layers(model: keras.Model, precision: str) -> list[keras.Layer]:
    """Layers, the output's and inputs aside, that compute in another precision than `precision`."""
    wanted = {"float32": "float32", "mixed_bfloat16": "bfloat16"}[precision]
    output = _output_names(model) if precision != "float32" else set()
    return [
        layer
        for layer in _leaves(model)
        if layer.compute_dtype in FLOATS
        and layer.compute_dtype != wanted
        and layer.name not in output
        and not isinstance(layer, keras.layers.InputLayer)
    ]


def cpu_has_bfloat16() -> bool:
    """False where the processor's list of features (Linux on x86) lacks bfloat16; True where there is no list."""
    listing = Path("/proc/cpuinfo")
    text = listing.read_text() if listing.is_file() else ""
    return "\nflags" not in text or "avx512_bf16" in text or "amx_bf16" in text


def _is_float(policy: Json) -> bool:
    """Whether a layer with this policy, as a configuration has it, computes in a floating point number."""
    while isinstance(policy, dict):
        inner = policy.get("config")
        policy = inner.get("name") if isinstance(inner, dict) else None
    return policy is None or str(policy).removeprefix("mixed_") in FLOATS


def _leaves(layer: keras.Layer) -> list[keras.Layer]:
    if not isinstance(layer, keras.Model):
        return [layer]
    return [leaf for inner in layer.layers for leaf in _leaves(inner)]


def _output_names(model: keras.Model) -> set[str]:
    """Names of the layers that make the model's output, looking into a nested model."""
    names = set()
    for tensor in getattr(model, "outputs", None) or []:
        layer = tensor._keras_history.operation  # Keras has no public way from a tensor to its layer
        names |= _output_names(layer) if isinstance(layer, keras.Model) else {layer.name}
    return names


def _rewritten(config: Json, precision: str, output: set[str]) -> Json:
    """Copy a configuration with each layer's `dtype` replaced, at any depth (nested models, wrapped layers)."""
    if isinstance(config, list | tuple):
        return type(config)(_rewritten(part, precision, output) for part in config)
    if not isinstance(config, dict):
        return config
    result = {key: _rewritten(part, precision, output) for key, part in config.items()}
    is_layer = "dtype" in result and "name" in result and config.get("batch_shape") is None  # and no InputLayer
    if is_layer and _is_float(config["dtype"]):
        result["dtype"] = "float32" if config["name"] in output else precision
    return result
