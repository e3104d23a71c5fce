"""For all tests."""

import gc

import pytest


@pytest.fixture(autouse=True, scope="module")
def what_is_there_stays() -> None:
    """A garbage collection looks at what a file's tests have made, not at all of TensorFlow: some ask for many."""
    gc.collect()
    gc.freeze()
