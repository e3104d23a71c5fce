"""TensorFlow, and Keras on it, imported in one way by all processes of a run, whatever a machine's own settings are.

TensorFlow greets in six lines of C++ log that no setting turns off: they are held back while it is imported. Keras
takes its backend and its defaults from KERAS_BACKEND and from keras.json (in KERAS_HOME, or ~/.keras): two machines
with different ones would train different models under one name. So the backend is set before Keras is imported and the
rest after it, in this process alone; the user's file stays as it is.
"""

import contextlib
import gc
import logging
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from fedkeras.deferred_modules import deferred
from fedkeras.errors import UserError
from fedkeras.gpus import NEEDS_GPU, VISIBLE

log = logging.getLogger("fedkeras")

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what TensorFlow's C++ says later; its errors are exceptions

os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # or the first process on a GPU takes all of its memory

_keras_was_first = "keras" in sys.modules
"""Somebody imported Keras before fedkeras, a notebook for instance, and with it its backend."""

if not _keras_was_first and os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
    log.warning("KERAS_BACKEND=%s is not used: fedkeras trains on TensorFlow", os.environ["KERAS_BACKEND"])
os.environ["KERAS_BACKEND"] = "tensorflow"  # which goes before keras.json's, here and in processes that this one starts

KERAS_DEFAULTS: dict[str, str | float | None] = {
    "floatx": "float32",
    "image_data_format": "channels_last",
    "epsilon": 1e-7,
    "max_epochs": None,  # of KERAS_MAX_EPOCHS and KERAS_MAX_STEPS_PER_EPOCH, which cut trainings and tests short
    "max_steps_per_epoch": None,
}
"""Keras' own, by the names of their functions in keras.config."""

UNUSED_PARTS = frozenset(
    {
        # scikit-learn with scipy.stats
        "keras.wrappers",
        "keras._tf_keras.keras.wrappers",
        # matplotlib.pyplot
        "keras.visualization",
        "keras._tf_keras.keras.visualization",
        "keras.src.visualization",
        # pandas, for `model.fit`, which takes its frames
        "keras.src.trainers.data_adapters.array_slicing",
    }
)
"""Parts of Keras that import what is named above them, and wait until somebody uses them."""

_GREETING = re.compile(rb"(WARNING: All log messages before absl|[IW]\d{4} [\d:.]+ +\d+ )")

_importing = threading.Lock()
"""TensorFlow breaks if two threads import it at once, and a module stands in sys.modules before it is complete."""


def import_tensorflow() -> None:
    """Import TensorFlow, and Keras with the settings of every run. Raises UserError as `check_keras` does,
    and where this process was promised a GPU that TensorFlow does not find.

    What else C++ writes to stderr meanwhile is passed on afterwards; Python's is never held.
    """
    with _importing:
        if "tensorflow" not in sys.modules:
            with _without_greeting(), deferred(UNUSED_PARTS), _without_collector():
                import tensorflow  # noqa: F401
        try:
            with deferred(UNUSED_PARTS):
                import keras
        except ValueError as error:  # of a keras.json that Keras itself refuses
            reason = " ".join(str(error).split())
            raise UserError(f"Keras does not take its settings in {_keras_json()}: {reason}") from error
        except ImportError as error:  # something imported it before us, and was left half-way with another backend
            raise UserError(f"Keras cannot be imported ({error}): {_SET_BACKEND}") from error
        check_keras()
        _check_gpu()
        for name, value in KERAS_DEFAULTS.items():
            if (own := getattr(keras.config, name)()) != value:
                log.warning("Keras' setting %s=%s is not used: fedkeras takes %s (%s)", name, own, value, _keras_json())
                getattr(keras.config, f"set_{name}")(value)


def check_keras() -> None:
    """Raise UserError if Keras was imported before fedkeras with another backend, which cannot be changed any more.

    Imports nothing.
    """
    if _keras_was_first and (backend := sys.modules["keras"].config.backend()) != "tensorflow":
        raise UserError(
            f"Keras is imported already, with the backend {backend}, and fedkeras trains on TensorFlow: {_SET_BACKEND}"
        )


def _check_gpu() -> None:
    """Raise UserError if this process was promised a GPU and TensorFlow finds none."""
    import tensorflow

    if os.environ.get(NEEDS_GPU) and not tensorflow.config.list_physical_devices("GPU"):
        seen = os.environ.get(VISIBLE, "unset")
        raise UserError(
            f"--gpus-per-client is {os.environ[NEEDS_GPU]}, and TensorFlow finds no GPU in this process "
            f"({VISIBLE} is {seen}): pip install 'tensorflow[and-cuda]', or leave the flag out"
        )


_SET_BACKEND = (
    "set KERAS_BACKEND=tensorflow before anything imports Keras (in a notebook: in os.environ, in a new kernel)"
)


def _keras_json() -> Path:
    """Where Keras looks for its settings."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home).expanduser() if home else Path.home() / ".keras") / "keras.json"


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Spare the garbage collector's walks over what only grows: a sixth of the import's time, for nothing freed."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            # Half a million objects would be walked over twice more as young ones. Frozen and thawed, they are old.
            gc.freeze()
            gc.unfreeze()
            gc.enable()


@contextlib.contextmanager
def _without_greeting() -> Iterator[None]:
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held, _python_writes_to(stderr):
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            for line in held:
                if not _GREETING.match(line):
                    os.write(2, line)


def _writes_to_stderr(stream: TextIO) -> bool:
    """True if it ends in descriptor 2, whatever is wrapped around it."""
    try:
        return stream.fileno() == 2
    except (AttributeError, OSError, ValueError):
        return False


@contextlib.contextmanager
def _python_writes_to(descriptor: int) -> Iterator[None]:
    """Keep Python's stderr out of what is held: a process that ends during the import has its last words to say."""
    before = sys.stderr
    if not _writes_to_stderr(before):  # a notebook's or a test's
        yield
        return
    sys.stderr = open(os.dup(descriptor), "w", buffering=1, errors="backslashreplace")  # noqa: SIM115, PTH123
    try:
        yield
    finally:
        for handler in logging.getLogger("tensorflow").handlers:  # which took the stderr that it found
            if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
                handler.setStream(before)
        sys.stderr.close()
        sys.stderr = before
