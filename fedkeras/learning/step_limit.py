"""How far a training may go: so many steps, or as many as fit into so many seconds; whole batches either way.

T. Li, A. K. Sahu, M. Zaheer, M. Sanjabi, A. Talwalkar, V. Smith, "Federated Optimization in Heterogeneous Networks"
(FedProx), MLSys 2020, arXiv:1812.06127, section 3.2: a client that cannot do all of its work in time sends what it has.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

ASIDE = 0.5
"""Share of the seconds that are left which the next steps may take, as far as the steps before them can tell."""


@dataclass(frozen=True)
class StepLimit:
    """At most `steps` (None: any number), and none that would end after `until`, by `clock` (None: at any time)."""

    steps: int | None = None
    until: float | None = None
    clock: Callable[[], float] = time.monotonic

    def spans(self, whole: int) -> Iterator[int]:
        """Up to which step a training of `whole` steps is to go next; asked again when it is there. At least one step.

        By the clock, a step's seconds are known from the steps before. So the spans become shorter towards the end: an
        estimate that is wrong costs little then.
        """
        most = whole if self.steps is None else min(whole, self.steps)
        if self.until is None:
            yield most
            return
        done, begun = 0, self.clock()
        yield (upto := min(1, most))
        while upto < most:
            now = self.clock()
            a_step, done = (now - begun) / (upto - done), upto
            left = self.until - now
            if left < a_step:
                return
            begun = now
            upto = min(most, done + max(1, int(ASIDE * left / a_step))) if a_step > 0 else most
            yield upto
