"""Whole runs of Keras models that clients keep a part of, or have beside the shared one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ArrayRecord, RecordDict

from fedkeras import client, server
from fedkeras.config import Config
from fedkeras.federation.records import views
from fedkeras.mods.client_state.memory import from_bytes
from fedkeras.reports import read_rows
from fedkeras.reports.checkpoints import newest_checkpoint

LAYERS = "local-layers:keep=classifier"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDKERAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda threads: None)
    return tmp_path / "cache"


@pytest.fixture
def run(tmp_path: Path):
    def made(app=client.app, **fields):
        settings = {"num_partitions": 2, "num_server_rounds": 2, "seed": 3, "model": "mlp", **fields}
        return server.in_process(Config(**settings), app, tmp_path / "runs")

    return made


def shared(folder):
    return {name: array.tobytes() for name, array in newest_checkpoint(folder).weights.items()}


def states(cache):
    """What the clients keep, by the name of the file."""
    return {path.name: from_bytes(path.read_bytes()) for path in (cache / "client-state").rglob("*") if path.is_file()}


def figures(folder, server_round):
    rows = [row for row in read_rows(folder.history_path) if row["round"] == server_round]
    return {row["client"]: row for row in rows if row["phase"] == "evaluate"}


def test_only_shared_arrays_travel_and_a_run_that_goes_on_has_the_same_bits(run, cache):
    seen: list[RecordDict] = []

    def app(message, context):
        reply = client.app(message, context)
        seen.extend([message.content, reply.content])
        return reply

    whole = run(app, mods=LAYERS, num_server_rounds=3)
    kept = states(cache)
    assert all(list(arrays) == ["002.kernel", "003.bias"] for arrays in kept.values()) and len(kept) >= 2
    records = [entry for content in seen for entry in content.values() if isinstance(entry, ArrayRecord)]
    assert records and all(list(record) == ["000.kernel", "001.bias"] for record in records)
    sent = {array.tobytes() for record in records for array in views(record).values()}
    assert not any(array.tobytes() in sent for arrays in kept.values() for array in arrays.values())
    shutil.rmtree(cache)
    first = run(mods=LAYERS, num_server_rounds=2)
    run(mods=LAYERS, num_server_rounds=3, resume=str(first.path))
    assert shared(first) == shared(whole)
    assert {key: row["accuracy"] for key, row in figures(first, 3).items()} == {
        key: row["accuracy"] for key, row in figures(whole, 3).items()
    }
    assert "server" not in figures(whole, 3) and not whole.model_path.exists() and whole.shared_layers_path.exists()
    page = whole.report_path.read_text()
    assert "Models of clients" in page and "are never sent" in page


@pytest.mark.slow
def test_dittos_shared_model_is_fedavgs_to_the_bit(run):
    plain, ditto = run(), run(mods="ditto:lambda=0.5")
    assert shared(ditto) == shared(plain)
    last, rows = figures(plain, 2), figures(ditto, 2)
    assert [rows[cid]["shared_accuracy"] for cid in "01"] == [last[cid]["accuracy"] for cid in "01"]
    assert rows["server"]["accuracy"] == last["server"]["accuracy"]
    summary = json.loads(ditto.summary_path.read_text())
    assert summary["accuracy"] == rows["all"]["accuracy"], "clients' own models stand for the run"


@pytest.mark.slow
def test_fine_tuning_changes_the_last_test_alone(run):
    plain, tuned = run(), run(mods="fine-tuning:epochs=3")
    assert shared(tuned) == shared(plain)
    assert figures(tuned, 1)["0"]["loss"] == figures(plain, 1)["0"]["loss"]
    last = figures(tuned, 2)["0"]
    assert last["shared_loss"] == figures(plain, 2)["0"]["loss"] and last["loss"] < last["shared_loss"]


@pytest.mark.slow
@pytest.mark.parametrize("mods", [LAYERS, f"{LAYERS},head-epochs=2", "ditto:lambda=0.1", "fine-tuning:epochs=2"])
def test_new_clients_train_nothing_that_is_shared_and_are_tested_in_the_end(run, mods):
    folder = run(mods=f"{mods},new-clients=1,new-epochs=2", num_partitions=3)
    trained = {row["client"] for row in read_rows(folder.history_path) if row["phase"] == "train"} - {"all"}
    assert len(trained) == 2
    (new,) = {"0", "1", "2"} - trained
    assert new not in figures(folder, 1)
    last = figures(folder, 2)
    assert 0 < last[new]["new_accuracy"] <= 1 and "accuracy" not in last[new]
    assert last["all"]["new_accuracy"] == last[new]["new_accuracy"]
    assert last["all"]["accuracy"] == pytest.approx(
        np.average([last[cid]["accuracy"] for cid in trained], weights=[last[cid]["num_examples"] for cid in trained])
    )


@pytest.mark.slow
def test_fedreps_first_phase_moves_what_stays_and_the_second_what_is_shared(run, cache):
    """With a head that is trained alone first, both differ from FedPer's; with no epoch of it they are FedPer's."""
    per, rep = run(mods=LAYERS, num_server_rounds=1), run(mods=f"{LAYERS},head-epochs=1", num_server_rounds=1)
    assert shared(per) != shared(rep)


@pytest.mark.slow
def test_fedbn_keeps_normalising_layers(run, cache):
    run(mods="local-layers:keep=bn", model=f"{__name__}:normalised", num_server_rounds=1)
    names = {name for arrays in states(cache).values() for name in arrays}
    assert names == {"002.gamma", "003.beta", "004.moving_mean", "005.moving_variance"}


def normalised(input_shape, num_classes):
    import keras

    parts = [keras.layers.Flatten(), keras.layers.Dense(8), keras.layers.BatchNormalization()]
    return keras.Sequential([keras.Input(input_shape), *parts, keras.layers.Dense(num_classes, "softmax")])
