"""Who had a part in a run that ended well: a client that had none hears of it at its own terminal, with the reason."""

from collections import Counter
from collections.abc import Collection, Mapping

from flwr.app import MessageType

from fedkeras.callbacks import Callback, Row
from fedkeras.federation.grids import FederationGrid
from fedkeras.runtime.own_grid import Ending

SUSPENDED = "it was suspended after its failures before the run was resumed"
NOT_ASKED = "it was not asked to train, since it was in no round's cohort"


class Participation(Callback):
    """Notes every client's answers and failures; at the run's end, the grid is told how it ended for whom.

    A part in the run is one good answer to training, or to evaluation where nothing was trained. What a workflow tells
    no callback of is not judged.
    """

    def __init__(self, grid: FederationGrid, num_partitions: int) -> None:
        self._grid, self._cids = grid, range(num_partitions)
        self._phase = ""
        self._answered: dict[str, set[int]] = {}
        self._failures: Counter[int] = Counter()
        self._reasons: dict[int, str] = {}
        self._left_out: dict[int, str] = {}

    def on_phase_begin(
        self, server_round: int, phase: str, cohort: Collection[int], suspended: Collection[int]
    ) -> None:
        """A phase begins; who is suspended and was not heard of before failed before this process began."""
        self._phase = phase
        self._answered.setdefault(phase, set())
        for cid in suspended if phase == MessageType.TRAIN else ():
            self._reasons.setdefault(cid, SUSPENDED)

    def on_client_result(self, cid: int, row: Row) -> None:
        """A good answer."""
        self._answered.setdefault(str(row["phase"]), set()).add(cid)

    def on_client_failure(self, cid: int, reason: str) -> None:
        """No good answer, or it could not be provisioned. Who cannot evaluate may still train."""
        if self._phase == MessageType.EVALUATE and MessageType.TRAIN in self._answered:
            return
        self._failures[cid] += 1
        self._reasons[cid] = reason

    def on_client_left_out(self, cid: int, reason: str) -> None:
        """A good answer that does not count, or none in time."""
        if self._phase == MessageType.TRAIN:
            self._answered[self._phase].discard(cid)
            self._left_out[cid] = reason

    def on_run_end(self, summary: Mapping[str, object]) -> None:
        """Tell the grid."""
        self._grid.set_endings(self.endings())

    def endings(self) -> dict[int, Ending]:
        """By cid, how the run ended for those that had no part in it; the others are not in it."""
        if not self._answered:
            return {}
        training = self._answered.get(MessageType.TRAIN)
        took_part = set().union(*self._answered.values()) if training is None else training
        return {cid: self._ending(cid) for cid in self._cids if cid not in took_part}

    def _ending(self, cid: int) -> Ending:
        if cid not in self._reasons and cid in self._left_out:
            return Ending(False, f"its work counted in no round, the last time since it {self._left_out[cid]}")
        if cid not in self._reasons:
            return Ending(False, NOT_ASKED)
        if not (count := self._failures[cid]):
            return Ending(True, self._reasons[cid])
        return Ending(True, f"no good answer in {count} attempt{'s' * (count > 1)}, the last: {self._reasons[cid]}")
