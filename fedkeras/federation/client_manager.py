"""Which node serves which client, and waiting until enough of them are connected."""

import logging
import time
from collections.abc import Collection

from flwr.serverapp import Grid

from fedkeras.callbacks import Callback
from fedkeras.config import Config
from fedkeras.errors import RunFailed
from fedkeras.federation.grids import federation_grid
from fedkeras.reports.log import ON_TABLE
from fedkeras.reports.progress_table import ProgressTable

log = logging.getLogger("fedkeras")

REPORT_SECONDS = 10.0
LOOK_SECONDS = 0.05
MAX_IDLE = 100
"""Nodes without a partition that are mentioned; whoever may join could name any number of them."""
SIMULATION_SECONDS = 20.0
"""How long a grid with a fixed number of nodes (Flower's simulation) is given to show them."""


class ClientManager:
    """The connected clients; `callback` is told who they are while they are waited for.

    `progress` is for what a way to train wants to show of each client.
    """

    def __init__(self, grid: Grid, config: Config, callback: Callback | None = None) -> None:
        self._grid, self._config, self._callback = federation_grid(grid), config, callback or Callback()
        self._needed = config.min_available_nodes or config.num_partitions
        self.progress = ProgressTable()
        self._idle: set[int] = set()
        self._news = True

    def wait(self, wanted: Collection[int] = ()) -> dict[int, int]:
        """Wait until enough clients are connected; return {cid: node id}, ascending in cid.

        Whoever is connected can take part here, so there is nothing more to wait for in who is `wanted`. With
        min-available-nodes 0 all clients are waited for once; afterwards the run goes on with whoever is left.
        Raises RunFailed, naming who is missing, after `node-timeout` seconds.
        """
        started = reported = time.monotonic()
        while len(nodes := self._connected()) < self._needed:
            self._news = True
            self._callback.on_clients(nodes, self._needed)
            waited = time.monotonic() - started
            missing = self._missing(nodes)
            if waited > self._patience():
                raise RunFailed(f"{missing} after {waited:.0f} s{self._advice()}")
            if time.monotonic() - reported > REPORT_SECONDS:
                reported = time.monotonic()
                left = self._patience() - waited
                log.warning("waiting for clients: %s; giving up in %.0f s", missing, left, extra=ON_TABLE)
            time.sleep(LOOK_SECONDS)
        if self._news:
            self._callback.on_clients(nodes, self._needed)
            self._news = False
        if not self._config.min_available_nodes:
            self._needed = 1
        return nodes

    def _connected(self) -> dict[int, int]:
        cids = self._grid.cids(self._config.node_timeout)
        count = self._config.num_partitions
        self._report_idle({cid for cid in cids.values() if not 0 <= cid < count})
        return dict(sorted((cid, node_id) for node_id, cid in cids.items() if 0 <= cid < count))

    def _report_idle(self, cids: set[int]) -> None:
        """Nodes that were started for more partitions than this run has: each is mentioned once."""
        if new := sorted(cids - self._idle)[: MAX_IDLE - len(self._idle)]:
            self._idle.update(new)
            shown = ", ".join(map(str, new[:10])) + (", ..." if len(new) > 10 else "")
            log.warning("cid %s: idle, since --num-partitions is %d", shown, self._config.num_partitions)

    def offer_again(self, failed: Collection[int]) -> None:
        """In a repeated round: these clients failed. Here there is nothing that they could lack."""

    def _missing(self, nodes: dict[int, int]) -> str:
        absent = [str(cid) for cid in range(self._config.num_partitions) if cid not in nodes]
        shown = ", ".join(absent[:10]) + (", ..." if len(absent) > 10 else "")
        return f"{len(nodes)} of {self._needed} clients are connected (missing: cid {shown})"

    def _patience(self) -> float:
        own = self._config.node_timeout
        return min(own, SIMULATION_SECONDS) if self._grid.is_simulation else own

    def _advice(self) -> str:
        if self._grid.is_simulation:
            count = self._config.num_partitions
            return (
                f': the simulation has too few, start it with --federation-config "num-supernodes={count}", '
                "or by `python -m fedkeras simulate`"
            )
        return " (--node-timeout)"
