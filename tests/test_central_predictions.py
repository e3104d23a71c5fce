"""What the server writes down for the report beyond the rounds: predictions, and who holds which labels."""

import re

import keras
import numpy as np
import pytest

from fedkeras import factory, models
from fedkeras.config import Config
from fedkeras.data.labels import Labels
from fedkeras.data.normalise import normaliser_from
from fedkeras.errors import UserError
from fedkeras.provisioning.central_evaluation import TableEvaluation
from fedkeras.provisioning.preprocessing import Preprocessing
from fedkeras.reports import RunFolder


def test_predictions_are_those_that_the_central_accuracy_counts(monkeypatch):
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda n: None)  # TensorFlow may have started by now
    config = Config()
    central = factory.CentralEvaluation(config, 1)
    weights = models.get_weights(factory.build_model(config))
    assert central.predictions(weights) is None, "nothing was evaluated: no test set is read, no model built"
    accuracy = central(1, weights)["accuracy"]
    other = {name: np.zeros_like(array) for name, array in weights.items()}
    central(2, other)
    labels, predicted, classes = central.predictions(weights)
    assert np.mean(labels == predicted) == pytest.approx(accuracy) and len(labels) == 360
    assert classes == tuple("0123456789")


def test_a_run_that_was_killed_before_its_predictions_gets_them_when_it_goes_on(monkeypatch):
    """Then no round is left to be evaluated: the test set was read at the start, and nothing else was done."""
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda n: None)
    config = Config()
    before, after = factory.CentralEvaluation(config, 1), factory.CentralEvaluation(config, 1)
    weights = models.get_weights(factory.build_model(config))
    before(1, weights)
    after.load()
    for one, other in zip(before.predictions(weights), after.predictions(weights), strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_that_cannot_be_written_are_one_line(tmp_path):
    central = factory.CentralEvaluation(Config(dataset=str(tmp_path / "none.npz"), model="digits_cnn"))
    path = tmp_path / "nowhere" / "model.keras"
    with pytest.raises(UserError, match=re.escape(f"cannot write {path.with_name('weights.npz')}: ")):
        central.save({"a": np.zeros(2)}, path)


def test_the_same_on_a_test_set_of_tables(monkeypatch, tmp_path):
    """Server-led training: the preprocessing lies in the run's folder, and the model file beside the data."""
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda n: None)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, activation="softmax")])
    models.save(model, tmp_path / "model.keras")
    run = RunFolder(tmp_path)
    Preprocessing(normaliser_from(None, "none"), Labels(("a", "b", "c"))).save(run.path)
    config = Config(data_source="server", model=str(tmp_path / "model.keras"))
    tables = {"x": np.eye(2)[[0, 1, 0, 1]], "y": np.array(["a", "b", "c", "a"])}
    before, after = (TableEvaluation(config, tables, run, 1) for _ in range(2))
    weights = models.get_weights(model)
    accuracy = before(1, weights)["accuracy"]
    labels, predicted, classes = after.predictions(weights)
    assert np.mean(labels == predicted) == pytest.approx(accuracy) and classes == ["a", "b", "c"]
