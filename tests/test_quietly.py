"""TensorFlow is imported without its greeting, can be heard afterwards, and Keras on it has every run's settings."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from fedkeras import tensorflow_import
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.workflows.base import workflow_of
from fedkeras.workflows.flag_checks import check_flags

SCRIPT = """
import logging
from fedkeras.tensorflow_import import import_tensorflow
import_tensorflow()
logging.getLogger("tensorflow").warning("a word of TensorFlow's")
import keras
names = "backend", "floatx", "image_data_format", "epsilon", "max_epochs", "max_steps_per_epoch"
print(*(getattr(keras.config, name)() for name in names))
import gc, sys
print(gc.isenabled(), *(name in sys.modules for name in ("scipy.stats", "sklearn", "matplotlib", "pandas")))
import numpy, pandas, sklearn
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
print(keras.wrappers.SKLearnClassifier(model), keras.visualization.plot_image_gallery.__name__)
frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [0.0, 4.0]})
print(model.predict(frame, verbose=0).shape)
"""


def test_no_greeting_no_settings_of_this_machine_and_then_its_own_words(tmp_path: Path) -> None:
    file = tmp_path / "keras.json"
    own = {"backend": "jax", "floatx": "float16", "epsilon": 0.1, "image_data_format": "channels_first"}
    file.write_text(json.dumps(own))
    given = {"KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "torch", "KERAS_MAX_EPOCHS": "1"}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=os.environ | given, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines() == [
        "tensorflow float32 channels_last 1e-07 None None",
        "True False False False False",  # Keras' parts that a training does not touch wait, and what they import ...
        "SKLearnClassifier(model=<Sequential name=sequential, built=True>) plot_image_gallery",  # ... until used
        "(2, 1)",
    ]
    warnings = [
        f"Keras' setting {name}={value} is not used: fedkeras takes {keras_own} ({file})"
        for name, value, keras_own in (
            ("floatx", "float16", "float32"),
            ("image_data_format", "channels_first", "channels_last"),
            ("epsilon", "0.1", "1e-07"),
            ("max_epochs", "1", "None"),
        )
    ]
    assert done.stderr.splitlines() == [
        "KERAS_BACKEND=torch is not used: fedkeras trains on TensorFlow",
        *warnings,
        "WARNING:tensorflow:a word of TensorFlow's",
    ]
    assert json.loads(file.read_text()) == own


def test_keras_that_was_imported_before_with_another_backend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorflow_import, "_keras_was_first", True)
    tensorflow_import.check_keras()
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    for check in (tensorflow_import.import_tensorflow, lambda: check_flags(workflow_of(Config()), Config())):
        with pytest.raises(UserError, match=r"with the backend jax.* KERAS_BACKEND=tensorflow"):
            check()


def test_what_was_set_in_a_notebook_is_set_to_the_runs_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    keras.config.set_image_data_format("channels_first")
    tensorflow_import.import_tensorflow()
    assert keras.config.image_data_format() == "channels_last"
    assert "Keras' setting image_data_format=channels_first is not used" in caplog.text
