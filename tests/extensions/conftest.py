"""The toys are found by name, as a user's module is: from the folder a command is started in, or PYTHONPATH."""

from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.fixture(autouse=True)
def toys_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "0")


@pytest.fixture(scope="module", autouse=True)
def whatever_threads():
    """Another test may have started TensorFlow in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedkeras.learning.limit_threads", lambda n: None)
        yield
