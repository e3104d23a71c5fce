"""Which node serves which client, and waiting until enough of them are there."""

import logging
import time

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from fedkeras.config import Config
from fedkeras.errors import RunFailed
from fedkeras.federation.callbacks import UNWATCHED, Callback
from fedkeras.federation.exchange import exchange
from fedkeras.federation.records import of_kind
from fedkeras.federation.validation import one_line
from fedkeras.flower.internals import is_simulation

log = logging.getLogger("fedkeras")

IDENTIFY = f"{MessageType.QUERY}.identify"
"""Message type that a ClientApp answers with its `partition-id`; Flower tells a server random node ids only."""

ANSWER_SECONDS = 120.0
REPORT_SECONDS = 10.0
LOOK_SECONDS = 0.05
LATE_SECONDS = 20.0
"""How long a grid with a fixed number of nodes (Flower's simulation) is given to show them."""


class ClientManager:
    """The connected nodes by client id. Our own grids know the ids; on Flower's each node is asked once."""

    def __init__(self, grid: Grid, config: Config, watch: Callback = UNWATCHED) -> None:
        self._grid, self._config, self._watch = grid, config, watch
        self._asked: dict[int, int] = {}
        self._needed = config.min_available_nodes or config.num_partitions
        self._idle: set[int] = set()
        self._news = True

    def wait(self) -> dict[int, int]:
        """Wait until enough clients are connected; return {cid: node id}, ascending in cid.

        With min-available-nodes 0 all clients are waited for once; afterwards the run goes on with whoever is left.
        Raises RunFailed, naming who is missing, after `node-timeout` seconds.
        """
        started = reported = time.monotonic()
        while len(nodes := self._connected()) < self._needed:
            self._news = True
            self._watch.connected(nodes, self._needed)
            waited = time.monotonic() - started
            missing = self._missing(nodes)
            if waited > self._patience():
                raise RunFailed(f"{missing} after {waited:.0f} s{self._advice()}")
            if time.monotonic() - reported > REPORT_SECONDS:
                reported = time.monotonic()
                log.warning("waiting for clients: %s; giving up in %.0f s", missing, self._patience() - waited)
            time.sleep(LOOK_SECONDS)
        if self._news:
            self._watch.connected(nodes, self._needed)
            self._news = False
        if not self._config.min_available_nodes:
            self._needed = 1
        return nodes

    def _connected(self) -> dict[int, int]:
        cids = self._grid.cids() if hasattr(self._grid, "cids") else self._ask()
        count = self._config.num_partitions
        self._report_idle({cid for cid in cids.values() if not 0 <= cid < count})
        return dict(sorted((cid, node_id) for node_id, cid in cids.items() if 0 <= cid < count))

    def _report_idle(self, cids: set[int]) -> None:
        """Nodes that were started for more partitions than this run has: each is mentioned once."""
        if new := sorted(cids - self._idle):
            self._idle |= cids
            shown = ", ".join(map(str, new[:10])) + (", ..." if len(new) > 10 else "")
            log.warning("cid %s: idle, since --num-partitions is %d", shown, self._config.num_partitions)

    def _ask(self) -> dict[int, int]:
        connected = list(self._grid.get_node_ids())
        new = [node_id for node_id in connected if node_id not in self._asked]
        messages = [Message(RecordDict({"config": ConfigRecord()}), node_id, IDENTIFY) for node_id in new]
        for reply in exchange(self._grid, messages, min(ANSWER_SECONDS, self._config.node_timeout)):
            if reply.has_error():
                raise RunFailed(f"a node does not say which partition it has: {one_line(reply.error.reason)}")
            table = next(iter(of_kind(reply.content, ConfigRecord).values()))
            self._asked[reply.metadata.src_node_id] = int(table["partition-id"])
        return {node_id: self._asked[node_id] for node_id in connected if node_id in self._asked}

    def _missing(self, nodes: dict[int, int]) -> str:
        absent = [str(cid) for cid in range(self._config.num_partitions) if cid not in nodes]
        shown = ", ".join(absent[:10]) + (", ..." if len(absent) > 10 else "")
        return f"{len(nodes)} of {self._needed} clients are connected (missing: cid {shown})"

    def _patience(self) -> float:
        return min(self._config.node_timeout, LATE_SECONDS) if self._is_simulation() else self._config.node_timeout

    def _is_simulation(self) -> bool:
        return is_simulation(self._grid)

    def _advice(self) -> str:
        if self._is_simulation():
            count = self._config.num_partitions
            return (
                f': the simulation has too few, start it with --federation-config "num-supernodes={count}", '
                "or by `python -m fedkeras simulate`"
            )
        return " (--node-timeout)"
