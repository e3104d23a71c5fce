"""A client's half: the state that a message refers to, and the one that its answer leaves behind."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import ConfigRecord, Context

from fedkeras.mods.client_state.memory import NAMES, ClientMemory, memory_of

RUN, STATE, SAVED, LOST = "state-run", "state", "state-saved", "state-lost"
"""Keys of the records that carry it: which run; the digest that counts ("": none yet), or in an answer the new one; the
digests, with spaces between, that checkpoints have ("": none); whether what counts was not there any more."""
MOST_SAVED = 2
"""The newest checkpoint on the disk has one, and so does the one that is being written."""


@dataclass
class KeptState:
    """One client's state in one run, as a message of the server's refers to it. `lost` is known after `recall`."""

    used: str
    saved: str
    memory: ClientMemory
    lost: bool = False

    @classmethod
    def asked_for(cls, table: ConfigRecord, context: Context, purpose: str) -> "KeptState":
        """As the server's message has it. Raises ValueError for what nobody can have meant.

        `purpose` is a constant of the client's own code, one for each kind of state, and never comes by wire: a server
        that names a state of one kind to code that sends the other finds nothing.
        """
        used, saved = table.get(STATE), table.get(SAVED)
        if not (isinstance(used, str) and isinstance(saved, str)):
            raise ValueError("the server does not say which state of this client counts")
        in_checkpoints = saved.split()
        named = [*([used] if used else []), *in_checkpoints]
        if len(in_checkpoints) > MOST_SAVED or not all(NAMES.fullmatch(each) for each in named):
            raise ValueError("the server does not say which state of this client counts")
        return cls(used, saved, memory_of(context, str(table.get(RUN)), purpose))

    def recall(self, like: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """The arrays that count, read-only; none at first, and none if they are lost.

        Lost is also what has other names, shapes or dtypes than `like`, if that is given.
        """
        found = self.memory.recall(self.used) if self.used else None
        if found is not None and like is not None and _shapes(found) != _shapes(like):
            found = None
        self.lost = bool(self.used) and found is None
        return {} if found is None else found

    def keep(self, arrays: Mapping[str, np.ndarray]) -> dict[str, str | bool]:
        """Keep these from now on, beside what counts and what checkpoints have; what the answer says of it.

        Raises UserError where the disk has no room or may not be written.
        """
        return {STATE: self.memory.keep(arrays, {self.used, *self.saved.split()} - {""}), LOST: self.lost}


def _shapes(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[tuple[int, ...], str]]:
    return {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
