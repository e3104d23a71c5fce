"""Training and evaluating one Keras model on one client's arrays, compiled once a process. Nothing here is federated.

Importing this package does not import TensorFlow; using it does.
"""

import importlib

from fedkeras.learning.outcome import Outcome

__all__ = ["Ends", "Learner", "Middle", "Outcome", "limit_threads"]

_LATER = {
    "Ends": "fedkeras.learning.ends",
    "Learner": "fedkeras.learning.learner",
    "Middle": "fedkeras.learning.middle",
    "limit_threads": "fedkeras.learning.threads",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module 'fedkeras.learning' has no attribute '{name}'")
    return getattr(importlib.import_module(_LATER[name]), name)
