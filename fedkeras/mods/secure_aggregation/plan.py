"""What one attempt at a round's sum is to be like, and what has come of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fedkeras.mods.secure_aggregation.encoding import Encoding, Integers, Quantised
from fedkeras.mods.secure_aggregation.figures import LARGEST_PIECE
from fedkeras.mods.secure_aggregation.parameters import whole
from fedkeras.mods.secure_aggregation.terms import Terms

WORK = "work"
"""The phase before the protocol's: training or testing."""
PHASES = (WORK, "advertise", "share", "mask", "unmask")


@dataclass(frozen=True)
class Plan:
    """One attempt at one round. `name` is what its messages are told by: 32 hexadecimal digits."""

    round: int
    kind: str
    """MessageType.TRAIN or EVALUATE."""
    number: int
    """The first attempt at a round is 1."""
    name: str
    graph_seed: bytes
    max_dropout: float
    colluding: float
    least: int
    """Clients that a sum must be of: min-clients, and of training --min-results."""
    clip: float
    most_examples: int
    """A client counts for at most so many; 1: all alike."""
    seconds: float
    """That a client has for each message after its training."""
    before: Sequence[frozenset[int]] = ()
    """Of whom sums of the same round were opened already."""

    def encoding(self, clients: int, values: int) -> Encoding:
        """How `values` numbers travel: an update quantised; where there is none, the figures' pieces alone."""
        if not values:
            return Integers(bound=LARGEST_PIECE, clients=clients)
        return Quantised(clip=self.clip, max_weight=self.most_examples, clients=clients, rounding="nearest")

    def terms(self, cohort: list[int], values: int, words: int) -> Terms:
        """The terms for these clients, with `words` of figures. Raises ValueError for what cannot be had.

        Of fewer clients than were asked to train, a smaller share may be lost from then on where no threshold stands
        the stated one: 2 of 5, and 1 of 4.
        """
        clients = len(cohort)
        bearable = (clients - (clients // 2 + 1)) / clients
        return Terms.plan(
            round=self.round,
            attempt=self.number,
            cohort=cohort,
            values=values + words,
            encoding=self.encoding(clients, values),
            graph_seed=self.graph_seed,
            max_dropout=min(self.max_dropout, bearable)
            if whole(self.max_dropout, clients) > bearable * clients
            else self.max_dropout,
            colluding=self.colluding,
        )


@dataclass
class Outcome:
    """What an attempt has led to: with `clients` 0 to no sum, and `reason` says why."""

    plan: Plan
    asked: int
    clients: int = 0
    """In the sum."""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    """The global arrays moved by the mean update, of training."""
    figures: dict[str, float] = field(default_factory=dict)
    """Means over the clients, by their weights."""
    examples: int = 0
    weight: int = 0
    clipped: int = 0
    """Values that clients have cut off, of `values` of all of them together."""
    values: int = 0
    lost: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PHASES, 0))
    """Clients by the phase in which they were lost."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time of each phase, and of the server's own part."""
    terms: Terms | None = None
    reason: str = ""
