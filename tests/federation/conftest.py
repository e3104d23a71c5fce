"""Messages made in a test are the server's, as they are in a run."""

import pytest

from fedkeras.flower.identity import SERVER_NODE_ID, act_as


@pytest.fixture(autouse=True)
def the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "0")
    act_as(SERVER_NODE_ID, 1)
