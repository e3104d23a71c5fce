"""States of a run to draw: few clients or many, half way through a round, with a clock that stands still."""

from fedkeras.reports.live_state import LiveState


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def line(cid, loss, accuracy):
    return {"client": str(cid), "num_examples": 10, "loss": loss, "accuracy": accuracy, "seconds": 1.0}


def half_way(clients):
    """Round 2 of 10, training: a tenth is suspended, one in twenty failed, half answered, the rest is at work."""
    clock = Clock()
    state = LiveState(clients, 10, clock)
    everybody = range(clients)
    state.on_phase_begin(1, "train", everybody, [])
    for cid in everybody:
        clock.now = 100.0 + cid / 10
        state.on_client_result(cid, line(cid, 2.0, 0.25))
    state.on_phase_begin(1, "evaluate", everybody, [])
    for cid in everybody:
        state.on_client_result(cid, line(cid, 1.5, cid / clients))
    state.end_round(1)
    suspended = [cid for cid in everybody if cid % 10 == 9]
    cohort = [cid for cid in everybody if cid % 10 != 9]
    state.on_phase_begin(2, "train", cohort, suspended)
    begun = clock.now
    for place, cid in enumerate(cohort):
        clock.now = begun + 1 + place / 100
        if cid % 20 == 8:
            state.on_client_failure(cid, "ran out of\nmemory")
        elif cid % 2 == 0:
            state.on_client_result(cid, line(cid, 1.0, 0.5))
    clock.now = begun + 7.5
    return state
