"""One figure from predictions: the mean over classes of F1, by scikit-learn."""

import numpy as np


def macro_f1(labels: np.ndarray, predicted: np.ndarray | None) -> float | None:
    """The unweighted mean over the classes there are in either; None without predictions, as of no classifier."""
    if predicted is None:
        return None
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predicted, average="macro", zero_division=0))
