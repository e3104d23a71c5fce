"""A round's local epochs one at a time, so that the client's terminal can say how far they are."""

from collections.abc import Callable

import numpy as np


def train_by_epoch(
    learner: object, examples: tuple, epochs: int, batch_size: int, rng: np.random.Generator, say: Callable
) -> object:
    """What `learner.train` does with `examples`, placed, to the bit; `say(epoch, outcome)` is called after each.

    Returns the last epoch's Outcome. FedProx's term is not in it.
    """
    count = int(examples[0].shape[0])
    learner.begin(rng)
    for epoch in range(1, epochs + 1):
        outcome = learner.go_on(*examples, rng.permutation(count), batch_size)
        say(epoch, outcome)
    learner.end()
    return outcome
