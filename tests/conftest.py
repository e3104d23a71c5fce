"""For all tests."""

import gc
import signal

import pytest
from hypothesis import settings

# Started in the background of a script, this process ignores Ctrl-C, and so would all those that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Machines that stall for a moment are no fault of a test, nor is an example that was never drawn before.
settings.register_profile("any machine", deadline=None, derandomize=True)
settings.load_profile("any machine")


@pytest.fixture(autouse=True, scope="module")
def what_is_there_stays() -> None:
    """A garbage collection looks at what a file's tests have made, not at all of TensorFlow: some ask for many."""
    gc.collect()
    gc.freeze()
