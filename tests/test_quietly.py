"""TensorFlow is imported without its greeting, and can be heard afterwards."""

import subprocess
import sys

SCRIPT = """
import logging
from fedkeras.tensorflow_import import import_tensorflow
import_tensorflow()
logging.getLogger("tensorflow").warning("a word of TensorFlow's")
"""


def test_no_greeting_and_then_its_own_words() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == ""
    assert done.stderr == "WARNING:tensorflow:a word of TensorFlow's\n"
