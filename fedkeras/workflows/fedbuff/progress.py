"""How far an asynchronous run is: what a checkpoint must hold beside the global arrays, so that it can go on.

With a simulated clock that is also the work under way: the versions that clients were sent, and when each is finished.
A run that goes on sends them again, and since a training is a function of (arrays, client, number), the same comes of
them. By the real clock nobody knows when who would have answered: what was under way is given up.
"""

from collections.abc import Mapping

from flwr.app import ArrayRecord

from fedkeras.federation.strategy_state import Stateful
from fedkeras.workflows.fedbuff.clocks import Assignment, Clock


class Progress(Stateful):
    """Plain attributes, which go into the checkpoint as a mod's do; what they are of is the version made last."""

    def __init__(self) -> None:
        self.trainings: dict[int, int] = {}
        """How many trainings each client was given, by cid."""
        self.given = 0
        """And all of them together."""
        self.seconds = 0.0
        """By the run's clock."""
        self.steps: dict[int, int] = {}
        """How many steps a client does in a training, by cid, as it has said; for a simulated clock."""
        self.under_way: list[list[int | float]] = []
        """[cid, number, version, started, finished] of each training under way, by a simulated clock."""
        self.bases: dict[int, ArrayRecord] = {}
        """The global arrays of the versions that these began from."""
        self.num_under_way = 0
        self.given_up = 0
        """Trainings that were under way by a simulated clock, and not sent again, for their clients were gone."""
        self.too_stale = 0
        """Updates that were left out for their staleness."""

    def next_number(self, cid: int) -> int:
        """Counts one more training of this client, and says which it is, from 1 on."""
        self.given += 1
        self.trainings[cid] = self.trainings.get(cid, 0) + 1
        return self.trainings[cid]

    def keep(self, clock: Clock, under_way: Mapping[int, Assignment]) -> None:
        """Take down what is under way when a version has been made."""
        self.seconds, self.num_under_way = clock.now, len(under_way)
        self.under_way, self.bases = [], {}
        for cid, training in sorted(under_way.items()) if clock.repeatable else ():
            finished = -1.0 if training.finished is None else training.finished
            self.under_way.append([cid, training.number, training.version, training.started, finished])
            self.bases[training.version] = training.arrays
