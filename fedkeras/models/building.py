"""From a name to a model: a built-in one, a file, or any function that returns a Keras model."""

import contextlib
import importlib
import random
from collections.abc import Iterator

import keras
import numpy as np

from fedkeras.errors import UserError, describe, reason_of
from fedkeras.models.file_info import fits
from fedkeras.models.files import SUFFIXES, load
from fedkeras.models.precision import with_precision
from fedkeras.models.requirements import require_trainable
from fedkeras.models.zoo import BUILT_IN


def build(
    name: str,
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    precision: str = "float32",
    seed: int = 0,
    trust_code: bool = False,
) -> keras.Model:
    """Return a built model for examples of `input_shape` (without the batch) and `num_classes` labels.

    `name` is one of BUILT_IN, a path to a .keras or .h5 file, or `package.module:function`, which is called with
    `input_shape` and `num_classes`. The same seed gives the same initial weights in every process; a file brings its
    own, and is loaded with its code if `trust_code`. The model is compiled only if it brings its own loss, which is
    then `model.loss`. Raises UserError.
    """
    input_shape = tuple(int(size) for size in input_shape)
    if name in BUILT_IN:
        model = _call(BUILT_IN[name], f"model {name}", input_shape, num_classes, seed)
    elif name.endswith(SUFFIXES):
        model = load(name, trust_code)
    elif ":" in name:
        model = _call(name, f"--model {name}", input_shape, num_classes, seed)
    else:
        raise UserError(
            f"--model is '{name}'; it may be one of {', '.join(BUILT_IN)}, "
            f"a path that ends in {' or '.join(SUFFIXES)}, or package.module:function"
        )
    try:
        require_trainable(model)
    except UserError as error:
        raise UserError(f"--model {name}: {error}") from None
    _check_shapes(model, name, input_shape, num_classes)
    return with_precision(model, precision)


def _call(target: str, title: str, input_shape: tuple[int, ...], num_classes: int, seed: int) -> keras.Model:
    module, _, function = target.partition(":")
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{title}: {error}") from error
    with _seeded(seed):
        try:
            model = make(input_shape=input_shape, num_classes=num_classes)
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{title} cannot be made for input_shape={input_shape} and num_classes={num_classes}: "
                f"{reason_of(error)[:200]}"
            ) from error
        except Exception as error:
            raise UserError(f"{title}: {describe(error)}") from error
        if not isinstance(model, keras.Model):
            raise UserError(f"{title} returned {type(model).__name__}, not a keras.Model")
        if not model.weights:
            model(np.zeros((1, *input_shape), "float32"))  # Keras has no surer way to build a subclassed model
    return model


def _check_shapes(model: keras.Model, name: str, input_shape: tuple[int, ...], num_classes: int) -> None:
    """Raise UserError unless the model takes `input_shape` and gives one number a class, or its input back."""
    if getattr(model, "inputs", None):  # Sequential or functional: it knows its shapes
        takes, gives = (tuple(ends[0].shape) for ends in (model.inputs, model.outputs))
    else:
        out = keras.tree.flatten(model(np.zeros((1, *input_shape), "float32"), training=False))
        if len(out) != 1:
            raise UserError(f"model {name} gives {len(out)} outputs; only one is trained here")
        takes, gives = (None, *input_shape), tuple(out[0].shape)
    if not fits(takes[1:], input_shape):
        raise UserError(f"model {name} takes inputs of shape {takes[1:]}; the data's is {input_shape}")
    one_number = gives[1:] == (1,) and num_classes == 2
    if gives[1:] != (num_classes,) and not one_number and gives[1:] not in (takes[1:], input_shape):
        raise UserError(f"model {name} has outputs of shape {gives[1:]}; the data has {num_classes} classes")


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed what Keras and user code draw initial weights from, and give Python's and numpy's state back after."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    keras.utils.set_random_seed(seed)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
