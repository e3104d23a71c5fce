"""Weights of rows and of classes in server-led training: taken out of X, handed out with the rows, multiplied."""

import json

import keras
import numpy as np
import pytest
from keras import layers

from fedkeras import client, server
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.learning import Learner
from fedkeras.models import get_weights, load
from fedkeras.provisioning.client_data import ProvisionedClient
from fedkeras.provisioning.download_cache import RowsReceiver, open_rows
from fedkeras.provisioning.server import check_flags
from fedkeras.provisioning.shards import Shard
from fedkeras.randomness import generator

X = np.random.default_rng(0).random((24, 3)).astype(np.float32)
Y = np.array(["yes", "no", "no"] * 8)
W = np.linspace(0.25, 3, 24)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDKERAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda n: None)


def test_weights_travel_with_the_rows_of_a_shard(tmp_path):
    shard = Shard(X, Y, np.array([1, 4, 20]), W)
    receiver = RowsReceiver(shard.digest, shard.layout, shard.num_bytes)
    receiver._partial.parent.mkdir(parents=True, exist_ok=True)
    for first, rows in shard.slices():
        receiver.add(first, rows)
    received = open_rows(shard.digest)
    np.testing.assert_array_equal(received["sample_weight"], W[[1, 4, 20]])
    assert shard.digest != Shard(X, Y, np.array([1, 4, 20])).digest


def test_a_client_takes_those_of_what_it_trains_on_and_checks_what_it_was_sent():
    config = Config(data_source="client", target="XX", test_fraction=0.25)
    own = ProvisionedClient(0, None, ("", ""), {"x": X, "sample_weight": W})
    np.testing.assert_array_equal(own.sample_weights(config), W[own.train_and_test_rows(config)[0]])
    sent = ProvisionedClient(0, None, ("", ""), {"x": X, "sample_weight": -W})
    with pytest.raises(UserError, match="client 0's sample weights: that of example 0"):
        sent.sample_weights(config)


def test_a_run_trains_with_the_weights_of_rows_times_those_of_classes(tmp_path):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, "tanh"), layers.Dense(2, "softmax")])
    model.save(tmp_path / "m.keras")
    for name, header, rows in (("X", "a,b,c,w", np.column_stack([X, W])), ("Y", "said", Y[:, None])):
        (tmp_path / name).mkdir()
        lines = [header, *(",".join(str(cell) for cell in row) for row in rows)]
        (tmp_path / name / "1.csv").write_text("\n".join(lines))
    flags = {"num_partitions": 1, "test_fraction": 0.0, "fraction_evaluate": 0.0, "num_server_rounds": 1}
    config = Config(data_source="server", model=str(tmp_path / "m.keras"), data_dir=str(tmp_path), sample_weight="w",
                    class_weight="balanced", **flags)  # fmt: skip
    folder = server.in_process(config, client.app, tmp_path / "runs")
    assert json.loads((folder.path / "class_weights.json").read_text())["class_weights"] == [0.75, 1.5]
    learner, classes = Learner(load(tmp_path / "m.keras")), (Y == "yes").astype(int)
    learner.train(X, classes, epochs=1, batch_size=16, sample_weight=np.array([0.75, 1.5])[classes] * W,
                  rng=generator(config.seed, "train", 1, 0))  # fmt: skip
    for name, array in learner.get_weights().items():
        np.testing.assert_allclose(get_weights(load(folder.model_path))[name], array, atol=1e-6)


@pytest.mark.parametrize(("flags", "said"), [({"target": "XX"}, "--target XX"), ({"collect_only": True}, "--collect")])
def test_class_weights_are_refused_where_there_are_no_classes(flags, said):
    with pytest.raises(UserError, match=f"--class-weight balanced needs classes to weigh, and {said}"):
        check_flags(Config(**{"class_weight": "balanced", "data_source": "client", **flags}))
