"""Whose code in a model file may run where: each process by its own flag, and never by what another one sends."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from flwr.app import Context, RecordDict
from keras import layers

from fedkeras import factory, models
from fedkeras.config import Config, Value
from fedkeras.errors import UserError
from fedkeras.federation import requests
from fedkeras.federation.requests import ClientContext
from fedkeras.provisioning.central_evaluation import DeliveredModels


def with_code(path: Path, function: Callable, shape: tuple[int, ...] = (3,), outputs: int = 2) -> keras.Model:
    parts = [keras.Input(shape), layers.Lambda(function, name="own"), layers.Flatten(), layers.Dense(outputs, name="d")]
    model = keras.Sequential(parts)
    model.compile(loss="mse")
    model.save(path)
    return model


def client(told: dict[str, Value], own: dict[str, Value]) -> ClientContext:
    return ClientContext(Context(0, 0, {"partition-id": 0, **own}, RecordDict(), told))


def test_a_server_cannot_trust_for_a_client_but_in_a_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Config(trust_code=True)
    assert "trust-code" not in told.for_clients()
    claim = told.to_run_config()  # as Flower's own runtimes hand it on
    assert not client(claim, {}).config.trust_code and not client(claim, {}).trusts_code
    assert not client(claim, {"trust-code": False, "allow": "*"}).config.trust_code
    assert client({}, {"trust-code": True}).config.trust_code
    monkeypatch.setattr(requests, "in_simulation", lambda: True)  # one person's processes
    assert client(claim, {}).config.trust_code and not client(Config().to_run_config(), {}).config.trust_code


def test_the_flag_loads_a_file_in_an_ordinary_run(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    made = with_code(path, lambda x: x * 2.0, (8, 8, 1), 10)
    with pytest.raises(UserError, match=r"a Lambda layer, which is Python code.* --trust-code allows it"):
        factory.build_model(Config(model=str(path)))
    loaded = factory.build_model(Config(model=str(path), trust_code=True))
    x = np.random.default_rng(0).random((2, 8, 8, 1), "float32")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), made.predict(x, verbose=0))


def test_code_in_what_a_client_delivers_never_runs(tmp_path: Path) -> None:
    own, delivered = tmp_path / "own.keras", tmp_path / "delivered.keras"
    with_code(own, lambda x: x * 2.0)
    weights = with_code(delivered, lambda x: x * 1000.0).get_weights()
    with pytest.raises(UserError, match="--trust-code allows it"):
        DeliveredModels(Config(model=str(own))).weights_of(delivered)
    found = DeliveredModels(Config(model=str(own), trust_code=True))
    found.weights_of(delivered)
    model = found.model
    x = np.ones((1, 3), "float32")
    np.testing.assert_allclose(model.predict(x, verbose=0), 2 * x @ weights[0] + weights[1], rtol=1e-6)
    with_code(delivered, lambda x: x, outputs=5)
    with pytest.raises(UserError, match=r"is of another architecture: layer 3 \('d'\): units is 5, not 2"):
        found.weights_of(delivered)
    models.save(keras.Sequential([keras.Input((3,)), layers.Dense(2)]), delivered)
    with pytest.raises(UserError, match="is a Dense, not a Lambda"):
        found.weights_of(delivered)
