"""States of a run to draw: few clients or many, in the middle of a round, with a clock that stands still."""

from fedkeras.reports.live_state import LiveState


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def line(cid, loss, accuracy):
    return {"client": str(cid), "num_examples": 10, "loss": loss, "accuracy": accuracy, "seconds": 1.0}


def in_the_middle(clients):
    """Round 2 of 10, training: a tenth rests, one in twenty failed, half answered, the rest is at work."""
    clock = Clock()
    state = LiveState(clients, 10, clock)
    everybody = range(clients)
    state.began(1, "train", everybody, [])
    for cid in everybody:
        clock.now = 100.0 + cid / 10
        state.answered(cid, line(cid, 2.0, 0.25))
    state.began(1, "evaluate", everybody, [])
    for cid in everybody:
        state.answered(cid, line(cid, 1.5, cid / clients))
    state.round_finished(1)
    resting = [cid for cid in everybody if cid % 10 == 9]
    asked = [cid for cid in everybody if cid % 10 != 9]
    state.began(2, "train", asked, resting)
    begun = clock.now
    for place, cid in enumerate(asked):
        clock.now = begun + 1 + place / 100
        if cid % 20 == 8:
            state.failed(cid, "ran out of\nmemory")
        elif cid % 2 == 0:
            state.answered(cid, line(cid, 1.0, 0.5))
    clock.now = begun + 7.5
    return state
