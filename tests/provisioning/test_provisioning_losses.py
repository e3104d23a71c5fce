"""The server finds out which loss its clients will train with, says it, and refuses what does not suit the data."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

from fedkeras.config import Config
from fedkeras.data.labels import Labels
from fedkeras.errors import UserError
from fedkeras.provisioning import provisioned_run
from fedkeras.provisioning.loss_check import LossCheck
from fedkeras.reports import Choices

X = np.random.default_rng(0).normal(size=(12, 4))
WORDS, AMOUNTS = np.array(["yes", "no"] * 6), X[:, 0] * 100


@pytest.fixture(autouse=True)
def any_threads(monkeypatch):
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda count: None)  # this process has begun with others


def checked(tmp_path, layer, y=None, agreed=None, loss=None, **flags):
    """What is noted about the loss of a model file for the server's targets `y`, or labels that clients `agreed` on."""
    model = keras.Sequential([keras.Input((4,)), layer])
    if loss is not None:
        model.compile(loss=loss)
    model.save(tmp_path / "m.keras")
    own = {"data_source": "client" if y is None else "server", "model": str(tmp_path / "m.keras")}
    shards = {} if y is None else {0: SimpleNamespace(whole={"x": X, "y": y})}
    choices, provision = Choices(), SimpleNamespace(shards=shards)
    check = provisioned_run.note_loss(Config(**own, **flags), provision, None, choices, 1)
    assert isinstance(check, LossCheck)
    if y is None and flags.get("target") != "XX":
        assert "loss" not in choices  # nothing is known before the clients say what they have
        check.when_agreed(SimpleNamespace(labels=agreed))
    return choices["loss"].partition(", for")[0] if "loss" in choices else None


def test_what_suits_the_servers_own_tables_is_said(tmp_path, capsys):
    assert checked(tmp_path, layers.Dense(2), WORDS) == "sparse_categorical_crossentropy of logits"
    assert checked(tmp_path, layers.Dense(1), WORDS) == "binary_crossentropy of logits"
    assert checked(tmp_path, layers.Dense(1), AMOUNTS) == "mean_squared_error"
    assert checked(tmp_path, layers.Dense(1), (X[:, 0] > 0).astype(int)) == "binary_crossentropy of logits"
    assert checked(tmp_path, layers.Dense(4, activation="relu"), AMOUNTS, target="XX") == "mean_squared_error"
    assert checked(tmp_path, layers.Dense(1), np.arange(12), loss="mse") is None
    printed = "loss: binary_crossentropy of logits, for the model ends in a layer Dense without an activation"
    assert printed in capsys.readouterr().out.splitlines()


def test_what_suits_what_clients_say_they_have_is_said(tmp_path):
    assert checked(tmp_path, layers.Dense(3, activation="softmax"), agreed=Labels((1, 2, 3))) == (
        "sparse_categorical_crossentropy"
    )
    assert checked(tmp_path, layers.Dense(1)) == "mean_squared_error"
    assert checked(tmp_path, layers.Dense(4), target="XX") == "mean_squared_error"


@pytest.mark.parametrize(
    ("layer", "case", "words"),
    [
        (layers.Dense(1), {"y": np.arange(12)}, "--loss mean_squared_error for amounts"),
        (layers.Dense(1), {"agreed": Labels((1, 2))}, "--loss binary_crossentropy:from_logits=true"),
        (layers.Dense(3, "relu"), {"y": np.arange(12) % 3}, "ends in a layer Dense with relu"),
        (layers.Dense(3, "relu"), {"agreed": Labels((0, 1, 2)), "loss": "ce"}, "compares probabilities, and the model"),
        (
            layers.Dense(1, "sigmoid"),
            {"y": AMOUNTS},
            "the data do not fit the model: binary_crossentropy compares with",
        ),
    ],
)
def test_what_does_not_suit_is_refused_before_a_client_trains(tmp_path, layer, case, words):
    with pytest.raises(UserError, match=words):
        checked(tmp_path, layer, **case)


def test_a_file_with_code_is_left_to_clients_that_trust_it(tmp_path):
    assert checked(tmp_path, layers.Lambda(lambda x: x), AMOUNTS) is None
