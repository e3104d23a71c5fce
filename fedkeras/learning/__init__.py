"""Training and evaluating one Keras model on one client's arrays, compiled once a process. Nothing here is federated.

Importing this package does not import TensorFlow; using it does.
"""

import importlib

from fedkeras.learning.results import TrainingResult
from fedkeras.tensorflow_import import import_tensorflow

__all__ = [
    "Body",
    "Epoch",
    "HeadAndTail",
    "Learner",
    "Objective",
    "Proximal",
    "TrainingResult",
    "fit",
    "limit_threads",
]

_LATER = {
    "HeadAndTail": "fedkeras.learning.head_and_tail",
    "Epoch": "fedkeras.learning.early_stopping",
    "Learner": "fedkeras.learning.learner",
    "Objective": "fedkeras.learning.objectives",
    "Proximal": "fedkeras.learning.objectives",
    "Body": "fedkeras.learning.body",
    "fit": "fedkeras.learning.early_stopping",
    "limit_threads": "fedkeras.learning.threads",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module 'fedkeras.learning' has no attribute '{name}'")
    import_tensorflow()  # here, so that its greeting stays out of notebooks
    return getattr(importlib.import_module(_LATER[name]), name)
