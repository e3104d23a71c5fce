"""The server's half of error feedback: which residual of each client belongs to what the global arrays are made of.

A client's residual counts from the moment a round that has used its update is finished. Until then, and after a round
that failed or an answer that was bad or late, the one before counts: an update that was not used is as if it had never
been made, and none is made up for twice. The table goes into the checkpoint, so that a run that goes on says the same.
"""

import logging
import secrets
from collections.abc import Collection, Mapping

from flwr.app import ConfigRecord, MessageType

from fedkeras.callbacks import Callback, FinishedRound
from fedkeras.federation.strategy_state import Stateful
from fedkeras.mods.compression.residual_memory import NAMES
from fedkeras.mods.compression.wire import LOST, RESIDUAL

log = logging.getLogger("fedkeras")


class CommittedResiduals(Stateful, Callback):
    """Digests by client id. `run` names the run towards clients, which keep files by it."""

    untracked = ("_nodes", "_pending", "_training")

    def __init__(self) -> None:
        self.run = secrets.token_hex(16)
        self.used: dict[int, str] = {}
        self.lost = 0
        """How often a client had to begin without the residual that was meant."""
        self._nodes: dict[int, int] = {}
        self._pending: dict[int, str] = {}
        self._training = False

    def of_node(self, node_id: int) -> str:
        """The digest that this node's client is to go on from; "": from none."""
        return self.used.get(self._nodes.get(node_id, -1), "")

    def take(self, node_id: int, table: ConfigRecord) -> None:
        """A client's answer could be decoded; `table` is what it says beside its arrays. Raises ValueError."""
        digest, lost = table.get(RESIDUAL), table.get(LOST)
        if not isinstance(digest, str) or not NAMES.fullmatch(digest) or type(lost) is not bool:
            raise ValueError("its answer does not say what it has not sent")
        cid = self._nodes.get(node_id, -1)
        self._pending[cid] = digest
        if lost:
            self.lost += 1
            log.warning(
                "client %d has lost what it had not sent yet (it was started anew elsewhere, or the run goes back "
                "further than it remembers) and begins with nothing: this run repeats no other one bit for bit",
                cid,
            )

    def on_phase_begin(
        self, server_round: int, phase: str, cohort: Mapping[int, int], suspended: Collection[int]
    ) -> None:
        """What an earlier attempt at this round has brought is not used."""
        self._training = phase == MessageType.TRAIN
        if self._training:
            self._nodes, self._pending = {node_id: cid for cid, node_id in cohort.items()}, {}

    def on_client_failure(self, cid: int, reason: str) -> None:
        """Its answer was bad after all. In the phase of evaluation nothing depends on it."""
        if self._training:
            self._pending.pop(cid, None)

    def on_round_end(self, result: FinishedRound) -> bool:
        """What was pending has been used."""
        self.used |= self._pending
        self._pending = {}
        return False
