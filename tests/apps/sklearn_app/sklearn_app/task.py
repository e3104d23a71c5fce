"""What is learned: logistic regression on handwritten digits, as numpy arrays in and out."""

import warnings

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

CLASSES, PIXELS = 10, 64
HELD_OUT = 5
"""Every fifth image is for testing on the server, and no client sees it."""


def load_test() -> tuple[np.ndarray, np.ndarray]:
    """The server's images and labels."""
    x, y = load_digits(return_X_y=True)
    return x[::HELD_OUT] / 16.0, y[::HELD_OUT]


def load_partition(partition_id: int, num_partitions: int) -> tuple[np.ndarray, np.ndarray]:
    """The images and labels of one client; the last client has twice as many as the others."""
    x, y = load_digits(return_X_y=True)
    others = np.flatnonzero(np.arange(len(y)) % HELD_OUT)
    owner = np.minimum(np.arange(len(others)) % (num_partitions + 1), num_partitions - 1)
    own = others[owner == partition_id]
    return x[own] / 16.0, y[own]


def initial_weights() -> list[np.ndarray]:
    """Coefficients and intercepts of a model that knows nothing."""
    return [np.zeros((CLASSES, PIXELS)), np.zeros(CLASSES)]


def train(weights: list[np.ndarray], x: np.ndarray, y: np.ndarray, epochs: int, penalty: float) -> list[np.ndarray]:
    """Go on from `weights` for some iterations of the solver."""
    model = LogisticRegression(C=1.0 / penalty, max_iter=epochs, warm_start=True)
    model.classes_, (model.coef_, model.intercept_) = np.arange(CLASSES), weights
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a few iterations are what was asked for
        model.fit(x, y)
    return [model.coef_, model.intercept_]


def evaluate(weights: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Loss and accuracy."""
    model = LogisticRegression()
    model.classes_, (model.coef_, model.intercept_) = np.arange(CLASSES), weights
    return float(log_loss(y, model.predict_proba(x), labels=model.classes_)), float(model.score(x, y))
