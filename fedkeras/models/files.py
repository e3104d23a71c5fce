"""Model files: `.keras`, and the older `.h5`, written atomically and read without running code from them."""

import contextlib
import zipfile
from pathlib import Path

import keras

from fedkeras import atomic
from fedkeras.errors import UserError
from fedkeras.models import legacy_h5
from fedkeras.models.compile_config import Compiled, make_loss, training_config, usable_metrics
from fedkeras.models.file_info import SUFFIXES, check_suffix, contents, first_line, read_config
from fedkeras.models.parameter_budget import parameter_budget
from fedkeras.models.trusted_code import GONE, foreign

__all__ = ["SUFFIXES", "load", "save"]


def save(model: keras.Model, path: str | Path) -> None:
    """Write `model` to `path` (.keras or .h5): a reader sees the old file or the new one, never half of one.

    Raises UserError if the disk refuses.
    """
    path = Path(path)
    check_suffix(path)
    try:
        with atomic.new_file(path) as partial:
            model.save(partial)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or first_line(error)}") from error


def load(path: str | Path, trust_code: bool = False, own_loss: bool = True) -> keras.Model:
    """Read a model from `path` (.keras or .h5) and compile it with its own loss and metrics, if it had any.

    Its optimizer is left behind: training here brings its own (`training_config` says what it was), and old files that
    name theirs in ways Keras 3 no longer reads still load; without `own_loss` its loss is, too. A metric that cannot be
    made here is left out with a warning. Lambda
    layers and classes that are not Keras' are refused, for they would run code that came with the file, unless
    `trust_code`. Raises UserError in one line.
    """
    path = Path(path)
    code = foreign(read_config(path).model)
    if gone := [need for need in code if need in GONE.values()]:
        raise UserError(f"cannot read the model file {path}: it needs {gone[0]}")
    if code and not trust_code:
        more = f" and {len(code) - 1} more of that kind" if len(code) > 1 else ""
        raise UserError(
            f"cannot read the model file {path}: it needs {code[0]}{more}; "
            "if you know who made it, --trust-code allows it"
        )
    own = training_config(path)
    # Code of somebody's own that is trusted may make its weights as it likes.
    budget = contextlib.nullcontext() if trust_code else parameter_budget(contents(path).numbers)
    loss = make_loss(own.loss, trust_code) if own_loss else None
    try:
        with legacy_h5.translated(path) as readable, budget:
            model = keras.saving.load_model(readable, compile=False, safe_mode=not trust_code)
        loss = loss if loss in ("crossentropy", "ce") else keras.losses.get(loss)  # which one the targets decide
    except UserError as error:
        raise UserError(f"cannot read the model file {path}: {error}") from error
    except (ValueError, TypeError, KeyError, OSError, ImportError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot read the model file {path}: {first_line(error)}") from error
    except Exception as error:
        if not trust_code:
            raise
        failure = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"cannot read the model file {path}: its code failed with {failure}") from error
    metrics = usable_metrics(own.metrics, trust_code)
    Compiled(loss, own.loss_weight, tuple(metrics), run_eagerly=own.run_eagerly).onto(model)
    return model
