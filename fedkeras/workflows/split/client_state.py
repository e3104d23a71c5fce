"""What a client of split learning remembers from message to message, in its process or in its Context.

A process that lasts keeps a client's variables as a replica and its batches' tapes where they are. Under Flower's own
runtimes the next message may meet another process: there all of it goes into `context.state`, which travels with the
client, and what a tape held is computed again.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from fedkeras.errors import UserError
from fedkeras.federation.records import record, views

if TYPE_CHECKING:
    from fedkeras.learning import HeadAndTail

ARRAYS, TABLE, SEEDS = "split-arrays", "split-turn", "seeds"


@dataclass
class ClientState:
    """A client in an epoch, which has a name. `penalties` are M1's terms of the batches under way."""

    epoch: str
    server_round: int = 0
    in_flight: int = 1
    seconds: float = 0.0
    penalties: dict[int, float] = field(default_factory=dict)
    seeds: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.uint32))
    """M1's random states before the batch that is under way."""


class ClientStates:
    """The turns of the clients that one process serves."""

    def __init__(self, ends: "HeadAndTail") -> None:
        self._ends, self._epoch = ends, ""
        self._turns: dict[int, ClientState] = {}

    def begin(self, cid: int, turn: ClientState, weights: dict[str, np.ndarray], stateless: bool) -> None:
        """Put weights and new optimizers in place for a client's turn.

        Several clients of this process that begin the same epoch begin with the same weights: as replicas of one start.
        """
        if turn.epoch != self._epoch or stateless:
            self._ends.start(weights)
            self._turns.clear()
            self._epoch = turn.epoch
        if not stateless:
            self._ends.use(cid)
            self._turns[cid] = turn

    def recall(self, cid: int, epoch: str, state: RecordDict, stateless: bool) -> ClientState:
        """Put in place what the client had after its last message. Raises UserError if this epoch is not known here."""
        turn = self._from(state) if stateless and TABLE in state else self._turns.get(cid)
        if turn is None or turn.epoch != epoch:
            raise UserError(f"client {cid} is not in this epoch: its process was started again, or was given up")
        if not stateless:
            self._ends.use(cid)
        return turn

    def keep(self, turn: ClientState, state: RecordDict) -> None:
        """Write all of a turn into the client's Context."""
        state[ARRAYS] = record({**self._ends.get_state(), SEEDS: turn.seeds})
        state[TABLE] = ConfigRecord(
            {
                "epoch": turn.epoch,
                "server-round": turn.server_round,
                "in-flight": turn.in_flight,
                "seconds": turn.seconds,
                "batches": list(turn.penalties),
                "penalties": list(turn.penalties.values()),
            }
        )

    def _from(self, state: RecordDict) -> ClientState:
        arrays, table = state[ARRAYS], state[TABLE]
        assert isinstance(arrays, ArrayRecord) and isinstance(table, ConfigRecord)
        values = dict(views(arrays))
        seeds = values.pop(SEEDS)
        self._ends.set_state(values)
        penalties = dict(zip(table["batches"], table["penalties"], strict=True))
        position = table["server-round"], table["in-flight"], table["seconds"]
        return ClientState(table["epoch"], *position, penalties, seeds)
