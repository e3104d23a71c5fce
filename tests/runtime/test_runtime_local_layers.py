"""Every byte between server and clients is recorded, and none of the arrays that clients keep is in it."""

import numpy as np
import pytest
from processes import Starter
from proxy import Proxy

from fedkeras.mods.client_state.memory import from_bytes
from fedkeras.reports import RunFolder
from fedkeras.reports.checkpoints import newest_checkpoint

CLIENTS = 2


def pieces(array: np.ndarray) -> list[bytes]:
    """An array in eighths: HTTP/2 may cut what it carries anywhere, but not everywhere."""
    return [piece.tobytes() for piece in np.array_split(np.ascontiguousarray(array).reshape(-1), 8) if piece.size >= 2]


@pytest.mark.slow
@pytest.mark.parametrize("mods", ["local-layers:keep=classifier", "ditto:lambda=0.1"])
def test_what_a_client_keeps_is_in_no_byte_that_passes(start: Starter, mods: str) -> None:
    server, address = start.server(
        "--num-partitions", CLIENTS, "--num-server-rounds", 2, "--mods", mods, "--checkpoint-every", 1
    )
    with Proxy(address, record=True) as proxy:
        clients = [start.client(proxy.address, cid) for cid in range(CLIENTS)]
        statuses = [process.ended() for process in (server, *clients)]
        assert statuses == [0] * (1 + CLIENTS), server.err
        passed = b"".join(bytes(content) for content in proxy.recorded.values())
    kept = [path for path in (start.folder / "cache" / "client-state").rglob("*") if path.is_file()]
    assert len(kept) >= CLIENTS
    for path in kept:
        for name, array in from_bytes(path.read_bytes()).items():
            assert not any(piece in passed for piece in pieces(array)), f"{name} of client {path.parent.name}"
    (run,) = (start.folder / "runs").iterdir()
    shared = newest_checkpoint(RunFolder(run)).weights
    found = [piece in passed for array in shared.values() for piece in pieces(array)]
    assert np.mean(found) > 0.9, "what is shared is found by the same search"
