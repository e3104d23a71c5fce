"""Results made up for tests: no training."""

from fedkeras.compare.arm_run import ArmResult

KINDS = {"centralised": "centralised", "local": "local", "split-shared": "split"}


def result(arm, seed, accuracy, own=None, central=None, **figures):
    """A finished arm run; `own` and `central` are lists, a client each."""
    by_client = [{str(cid): value for cid, value in enumerate(values or [])} for values in (own, central)]
    point = {"round": 1, "accuracy": accuracy, "loss": 0.5}
    together = KINDS.get(arm, "federated") in ("federated", "split")
    defaults = {
        "macro_f1": accuracy, "loss": 0.5, "seconds": 2.0, "training_seconds": 1.0,
        "bytes_up": 1_000_000 if together else None, "bytes_down": 3_000_000 if together else None, "curve": [point],
    }  # fmt: skip
    return ArmResult(
        arm, KINDS.get(arm, "federated"), seed, accuracy, own=by_client[0], central=by_client[1], **(defaults | figures)
    )
