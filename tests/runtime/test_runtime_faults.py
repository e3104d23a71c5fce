"""Each fault of the table once: the run finishes with the right weights, or ends as it is documented to."""

from pathlib import Path

import pytest
from faults import FAULTS, stage

QUICK = {"NaN, wrong shapes, names, types, counts from 11 clients"}
"""What `make test` plays; the rest is in `make test-all`, and much of it in smaller tests beside this one."""


@pytest.mark.parametrize("fault", [f if f in QUICK else pytest.param(f, marks=pytest.mark.slow) for f in FAULTS])
def test_fault(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_KEEPALIVE", "2")
    with stage(tmp_path) as made:
        verdict = FAULTS[fault](made)
    assert verdict.survived, verdict.note
