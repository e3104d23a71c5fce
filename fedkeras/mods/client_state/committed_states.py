"""The server's half: which state of each client belongs to what the global arrays are made of.

A client's state counts from the moment a round that has used its update is finished. Until then, and after a round
that failed or an answer that was bad or late, the one before counts. The table goes into the checkpoint, so that a run
that goes on says the same; what the newest checkpoint on the disk has, and the one that is being written, is told to
clients too, and they keep it that long.
"""

import logging
import secrets
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from flwr.app import ConfigRecord, MessageType

from fedkeras.callbacks import Callback, FinishedRound
from fedkeras.federation.strategy_state import Stateful
from fedkeras.mods.client_state.kept_state import LOST, RUN, SAVED, STATE
from fedkeras.mods.client_state.memory import NAMES

if TYPE_CHECKING:
    from fedkeras.workflows.base import RunContext

log = logging.getLogger("fedkeras")


class CommittedStates(Stateful, Callback):
    """Digests by client id; a callback of the run. `what` are the words for a state in a warning; `run` names the run
    towards clients, which keep files by it."""

    untracked = ("_what", "_nodes", "_pending", "_phase", "_saved", "_written")

    def __init__(self, what: str) -> None:
        self._what = what
        self.run = secrets.token_hex(16)
        self.used: dict[int, str] = {}
        self.lost = 0
        """How often a client had to begin without the state that was meant."""
        self._nodes: dict[int, int] = {}
        self._pending: dict[int, str] = {}
        self._phase = ""
        self._saved: dict[int, str] = {}
        self._written: dict[int, str] = {}

    def told(self, node_id: int) -> dict[str, str]:
        """What a message to this node says, for a record of it.

        To train a client goes on from what counts; it is tested with what it has just come to, if its answer was good.
        """
        cid = self._nodes.get(node_id, -1)
        used = self.used.get(cid, "")
        if self._phase == MessageType.EVALUATE:
            used = self._pending.get(cid, used)
        saved = {self._saved.get(cid, ""), self._written.get(cid, "")}
        return {RUN: self.run, STATE: used, SAVED: " ".join(sorted(saved - {""}))}

    def has(self, cid: int) -> bool:
        """Whether this client has a state, one that counts as soon as its round is over included."""
        return cid in self.used or cid in self._pending

    def take(self, node_id: int, table: ConfigRecord) -> None:
        """A client's answer could be decoded; `table` is what it says beside its arrays. Raises ValueError."""
        digest, lost = table.get(STATE), table.get(LOST)
        if not isinstance(digest, str) or not NAMES.fullmatch(digest) or type(lost) is not bool:
            raise ValueError("its answer does not say what it keeps")
        cid = self._nodes.get(node_id, -1)
        self._pending[cid] = digest
        if lost:
            self.lost += 1
            log.warning(
                "client %d has lost %s (it was started anew elsewhere, or the run goes back "
                "further than it remembers) and begins with nothing: this run repeats no other one bit for bit",
                cid, self._what,
            )  # fmt: skip

    def on_run_begin(self, run: "RunContext") -> None:
        """A run that goes on begins with what its checkpoint has."""
        if run.start is not None:
            self._written = dict(self.used)

    def on_checkpoint(self, server_round: int, on_disk: bool) -> None:
        """Until a checkpoint is on the disk, a run may have to go back to the one before."""
        if on_disk:
            self._written = self._saved
        else:
            self._saved = dict(self.used)

    def on_phase_begin(
        self, server_round: int, phase: str, cohort: Mapping[int, int], suspended: Collection[int]
    ) -> None:
        """What an earlier attempt at this round has brought is not used."""
        self._phase, self._nodes = phase, {node_id: cid for cid, node_id in cohort.items()}
        if phase == MessageType.TRAIN:
            self._pending = {}

    def on_client_failure(self, cid: int, reason: str) -> None:
        """Its answer was bad after all. In the phase of evaluation nothing depends on it."""
        if self._phase == MessageType.TRAIN:
            self._pending.pop(cid, None)

    def on_client_left_out(self, cid: int, reason: str) -> None:
        """Its answer was good, and does not count."""
        self.on_client_failure(cid, reason)

    def on_round_end(self, result: FinishedRound) -> bool:
        """What was pending has been used; the checkpointer is called afterwards."""
        self.used |= self._pending
        self._pending = {}
        return False
