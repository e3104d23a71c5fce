"""Training and evaluating one Keras model on one client's arrays, compiled once a process. Nothing here is federated.

Importing this package does not import TensorFlow; using it does.
"""

import importlib

from fedkeras.learning.outcome import Outcome
from fedkeras.quietly import import_tensorflow

__all__ = ["Ends", "Epoch", "Learner", "Middle", "Outcome", "fit", "limit_threads"]

_LATER = {
    "Ends": "fedkeras.learning.ends",
    "Epoch": "fedkeras.learning.fitting",
    "Learner": "fedkeras.learning.learner",
    "Middle": "fedkeras.learning.middle",
    "fit": "fedkeras.learning.fitting",
    "limit_threads": "fedkeras.learning.threads",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module 'fedkeras.learning' has no attribute '{name}'")
    import_tensorflow()  # here, so that its greeting stays out of notebooks
    return getattr(importlib.import_module(_LATER[name]), name)
