"""Each fault of the table once: the run finishes with the right weights, or ends as it is documented to."""

from pathlib import Path

import pytest
from faults import FAULTS, stage

SLOW = {
    "connection truncated, three times",
    "half-open connection, one way",
    "slow connection",
    "wrong CA",
    "server killed for good",
    "certificate expires during the run",
    "1,000 random and mutated frames",
    "200 connections that never authenticate",
    "the same, its newest checkpoint truncated",
    "connection cut ten times in two seconds",
}


@pytest.mark.parametrize("fault", [pytest.param(f, marks=pytest.mark.slow) if f in SLOW else f for f in FAULTS])
def test_fault(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_KEEPALIVE", "2")
    with stage(tmp_path) as made:
        verdict = FAULTS[fault](made)
    assert verdict.survived, verdict.note
