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
    """A client in an epoch, which has a name. `penalties` are the head's terms of the batches under way."""

    epoch: str
    server_round: int = 0
    in_flight: int = 1
    seconds: float = 0.0
    penalties: dict[int, float] = field(default_factory=dict)
    seeds: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.uint32))
    """The head's random states before the batch that is under way."""


class ClientStates:
    """What the clients are at that one process serves."""

    def __init__(self, head_and_tail: "HeadAndTail") -> None:
        self._head_and_tail, self._epoch = head_and_tail, ""
        self._states: dict[int, ClientState] = {}

    def begin(self, cid: int, state: ClientState, weights: dict[str, np.ndarray], stateless: bool) -> None:
        """Put weights and new optimizers in place for a client's state.

        Several clients of this process that begin the same epoch begin with the same weights: as replicas of one start.
        """
        if state.epoch != self._epoch or stateless:
            self._head_and_tail.start(weights)
            self._states.clear()
            self._epoch = state.epoch
        if not stateless:
            self._head_and_tail.use(cid)
            self._states[cid] = state

    def recall(self, cid: int, epoch: str, context_state: RecordDict, stateless: bool) -> ClientState:
        """Put in place what the client had after its last message. Raises UserError if this epoch is not known here."""
        state = self._from(context_state) if stateless and TABLE in context_state else self._states.get(cid)
        if state is None or state.epoch != epoch:
            raise UserError(f"client {cid} is not in this epoch: its process was started again, or was given up")
        if not stateless:
            self._head_and_tail.use(cid)
        return state

    def keep(self, state: ClientState, context_state: RecordDict) -> None:
        """Write all of a client's state into the client's Context."""
        context_state[ARRAYS] = record({**self._head_and_tail.get_state(), SEEDS: state.seeds})
        context_state[TABLE] = ConfigRecord(
            {
                "epoch": state.epoch,
                "server-round": state.server_round,
                "in-flight": state.in_flight,
                "seconds": state.seconds,
                "batches": list(state.penalties),
                "penalties": list(state.penalties.values()),
            }
        )

    def _from(self, state: RecordDict) -> ClientState:
        arrays, table = state[ARRAYS], state[TABLE]
        assert isinstance(arrays, ArrayRecord) and isinstance(table, ConfigRecord)
        values = dict(views(arrays))
        seeds = values.pop(SEEDS)
        self._head_and_tail.set_state(values)
        penalties = dict(zip(table["batches"], table["penalties"], strict=True))
        position = table["server-round"], table["in-flight"], table["seconds"]
        return ClientState(table["epoch"], *position, penalties, seeds)
