"""Training and evaluating one Keras model on one client's arrays, compiled once a process. Nothing here is federated.

    learner             one resident model: place examples, train, evaluate, get and set weights
    graphs              a whole training, and a whole evaluation, as one TensorFlow graph each
    objectives          what is minimised, and how its gradients are had: the proximal term, and anybody's own
    trained_part        a part of the weights alone is trained: FedRep's phases
    anchored            the proximal term of given weights: Ditto's
    gradient_correction gradients with a fixed array added to each: SCAFFOLD's
    dp_sgd              differential privacy of examples: gradients that are clipped for each and noised
    per_example         each example's own gradient, clipped, and their sum
    layer_gradients     the same by layers, for the models it knows: faster
    poisson             batches into which each example comes by a coin of its own
    private_model       which models that can train
    step_limit          how far a training may go, by steps or by the clock
    keras_loop          models with a train_step or test_step of their own
    optimizers          optimizers by name, and new again before each training
    losses              which loss suits a model and what it is to learn
    targets             metrics, and targets in the form that a loss takes
    sample_weights      what each example's loss is multiplied by
    results             what a training or an evaluation came to
    early_stopping      epochs with validation data, and when to end them
    cross_validation    K-fold
    example_losses      the loss of each example by itself
    threads             how many threads TensorFlow computes with

    head_and_tail       split learning: the client's half of a model
    body                split learning: the server's half
    segment             a part whose gradient comes later and from elsewhere
    two_step_gradient   what a client waits for first, the weights' gradients later
    replicas            what both halves have in common
    nopeek              distance correlation of inputs and activations
    quantisation        activations and gradients in fewer bits

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
