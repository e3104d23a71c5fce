"""Some of a run's clients: the others need not be connected, and are not asked."""

import time
from collections.abc import Collection

from fedkeras.errors import RunFailed
from fedkeras.workflows.base import Clients

LOOK_SECONDS = 0.1


class ChosenClients:
    """The `Clients` of a run, of whom only `cids` take part."""

    def __init__(self, clients: Clients, cids: Collection[int], patience: float) -> None:
        self._clients, self._cids, self._patience = clients, sorted(cids), patience
        self.progress = clients.progress

    def wait(self, wanted: Collection[int] = ()) -> dict[int, int]:
        """{cid: node id} when all of the chosen are connected. Raises RunFailed after `patience` seconds."""
        started = time.monotonic()
        while True:
            nodes = self._clients.wait(self._cids)
            missing = [cid for cid in self._cids if cid not in nodes]
            if not missing:
                return {cid: nodes[cid] for cid in self._cids}
            if time.monotonic() - started > self._patience:
                raise RunFailed(f"client {missing[0]} is not connected after {self._patience:.0f} s (--node-timeout)")
            time.sleep(LOOK_SECONDS)

    def offer_again(self, failed: Collection[int]) -> None:
        """These failed: what they may lack is offered again."""
        self._clients.offer_again(failed)
