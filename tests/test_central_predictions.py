"""What the server writes down for the report beyond the rounds: predictions, and who holds which labels."""

import numpy as np
import pytest

from fedkeras import assembly, models
from fedkeras.config import Config


def test_predictions_are_those_that_the_central_accuracy_counts(monkeypatch):
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda n: None)  # TensorFlow may have started by now
    config = Config()
    central = assembly.CentralEvaluation(config, 1)
    weights = models.get_weights(assembly.build_model(config))
    assert central.predictions(weights) is None, "nothing was evaluated: no test set is read, no model built"
    accuracy = central(1, weights)["accuracy"]
    other = {name: np.zeros_like(array) for name, array in weights.items()}
    central(2, other)
    labels, predicted, classes = central.predictions(weights)
    assert np.mean(labels == predicted) == pytest.approx(accuracy) and len(labels) == 360
    assert classes == tuple("0123456789")


def test_label_counts_are_the_clients_examples():
    scheme, classes, counts = assembly.label_counts(Config(num_partitions=4, partitioner="shards"))
    assert "shards" in scheme and len(classes) == 10 and list(counts) == [0, 1, 2, 3]
    assert sum(row.sum() for row in counts.values()) <= 1437 and all(
        np.count_nonzero(row) <= 2 for row in counts.values()
    )


def test_data_that_cannot_be_divided_have_no_counts():
    assert assembly.label_counts(Config(num_partitions=2000)) is None
