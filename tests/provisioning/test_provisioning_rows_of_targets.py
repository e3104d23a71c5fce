"""Targets of several columns: one class a row, or several at once, by the loss and the model's end, for all alike."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from fedkeras import models
from fedkeras.config import Config
from fedkeras.data import labels
from fedkeras.errors import RunFailed
from fedkeras.learning import Learner
from fedkeras.models.file_info import last_activation
from fedkeras.provisioning.agreement import DataDescription, agree
from fedkeras.provisioning.client_data import ProvisionedClient, learns, place

CONFIG = Config(data_source="client", model="m.keras")
ONE_HOT = np.eye(3, dtype=np.int64)[[0, 2, 1, 0]]
SEVERAL = np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0], [1, 0, 1]])


def file(folder: Path, end: layers.Layer, loss: str | None) -> Path:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, use_bias=False), end, layers.Dropout(0.1)])
    if loss:
        model.compile("sgd", loss)
    model.save(folder / "m.keras")
    return folder / "m.keras"


def client(path: Path, y: np.ndarray, cid: int = 0) -> ProvisionedClient:
    return ProvisionedClient(cid, path, ("", ""), {"x": np.zeros((len(y), 4)), "y": y})


def described(one: ProvisionedClient, config: Config) -> DataDescription:
    found = labels.fit(one.y) if one.are_classes(config) else None
    return DataDescription(len(one.y), [], found, one_hot=found is not None and one.y.ndim == 2)


@pytest.mark.parametrize(
    ("end", "loss", "flag", "classes"),
    [
        ("sigmoid", "binary_crossentropy", "", False),
        ("sigmoid", None, "", False),
        ("linear", "mse", "binary_crossentropy:from_logits=true", False),
        ("softmax", "categorical_crossentropy", "", True),
        ("softmax", None, "", True),
        ("sigmoid", "categorical_crossentropy", "", True),
        ("softmax", "mse", "", True),
    ],
)
def test_loss_and_outputs_decide_about_rows_that_look_one_hot(tmp_path, end, loss, flag, classes) -> None:
    path = file(tmp_path, layers.Activation(end), loss)
    assert last_activation(path) == end
    config = Config(data_source="client", model=str(path), loss=flag)
    assert client(path, ONE_HOT).are_classes(config) == classes
    assert not client(path, SEVERAL).are_classes(config)


def test_a_small_client_learns_what_the_others_do(tmp_path: Path) -> None:
    path = file(tmp_path, layers.Activation("sigmoid"), None)
    clients = [client(path, SEVERAL), client(path, ONE_HOT, 1)]
    agreed = agree(CONFIG, {one.cid: described(one, CONFIG) for one in clients}, 3)
    assert agreed.labels is None and learns(CONFIG, agreed) == "numbers"
    learner = Learner(models.load(path), learns=learns(CONFIG, agreed))
    assert learner.loss == "binary_crossentropy"
    for one in clients:
        one.preprocessing = agreed
        _, y = place(CONFIG, learner, *one.examples(CONFIG, np.arange(4)))
        np.testing.assert_array_equal(y, one.y)


def test_where_neither_says_it_all_clients_rows_do(tmp_path: Path) -> None:
    """One client's rows are not one class each: nobody's are."""
    path = file(tmp_path, layers.Activation("linear"), None)
    few, more, words = client(path, ONE_HOT), client(path, SEVERAL), client(path, np.array(["a", "b"]))
    assert agree(CONFIG, {0: described(few, CONFIG), 1: described(few, CONFIG)}, 3).labels.names == (0, 1, 2)
    assert agree(CONFIG, {0: described(few, CONFIG), 1: described(more, CONFIG)}, 3).labels is None
    with pytest.raises(RunFailed, match="some clients are classes, and those of others numbers"):
        agree(CONFIG, {0: described(words, CONFIG), 1: described(more, CONFIG)}, 3)
