"""Whole runs as a user starts them: `python server.py` and `python client.py --cid N`, with Keras, on digits."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROUNDS
from processes import Starter, until

from fedkeras.config import Config
from fedkeras.reports.history import read_rows

FILES = {"config.json", "history.csv", "model.keras", "summary.json", "run.log", "curves.png", "checkpoints"} | {
    "report.html",
    "timing.csv",
    "partitions.json",
    "predictions.npz",
}


def test_all_processes_end_well(run: SimpleNamespace) -> None:
    assert run.statuses == [0, 0, 0, 0], run.server.err
    assert run.server.complaints == []
    for cid, client in enumerate(run.clients):
        assert client.err == ""
        assert f"as client {cid}" in client.out
        assert client.out.endswith("client: the run is finished\n")


def test_the_run_folder_is_complete(run: SimpleNamespace) -> None:
    assert {path.name for path in run.folder.iterdir() if path.name != ".lock"} == FILES
    assert Config.load(run.folder / "config.json") == Config(port=0, num_server_rounds=ROUNDS)
    summary = json.loads((run.folder / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["rounds"] == ROUNDS
    assert summary["accuracy"] > 0.5  # chance is 0.1


def test_history_has_a_row_for_everyone_in_every_round(run: SimpleNamespace) -> None:
    rows = [(row["round"], row["phase"], row["client"]) for row in read_rows(run.folder / "history.csv")]
    expected = {
        (server_round, phase, client)
        for server_round in range(1, ROUNDS + 1)
        for phase, clients in (("train", ("0", "1", "2", "all")), ("evaluate", ("0", "1", "2", "all", "server")))
        for client in clients
    }
    assert set(rows) == expected
    assert len(rows) == len(expected)


def test_spawned_clients_do_the_same(spawned_run: SimpleNamespace) -> None:
    assert spawned_run.statuses == [0], spawned_run.server.err
    assert {path.name for path in spawned_run.folder.iterdir() if path.name != ".lock"} == FILES
    assert spawned_run.server.complaints == []


@pytest.mark.slow
def test_a_client_killed_in_mid_run_is_named_and_the_others_finish(start: Starter) -> None:
    rounds = 25
    server, address = start.server("--num-server-rounds", rounds, "--no-central-evaluation", "--reconnect-grace", 1)
    others, victim = start.client(address, "0,1"), start.client(address, 2)
    server.said("\n    3 ")  # the third round's line
    victim.popen.kill()
    assert server.ended() == 0, server.err
    assert others.ended() == 0, others.err
    folder = start.run_folder()
    assert "client 2 is gone" in (folder / "run.log").read_text()
    rows = [row for row in read_rows(folder / "history.csv") if row["phase"] == "train"]
    assert max(row["round"] for row in rows) == rounds
    assert [row["client"] for row in rows if row["round"] == rounds] == ["0", "1", "all"]
    assert [row["client"] for row in rows if row["round"] == 1] == ["0", "1", "2", "all"]
    until(lambda: (folder / "model.keras").exists(), "the model", 1)


@pytest.mark.slow
def test_a_server_without_data_keeps_the_weights(start: Starter) -> None:
    """It cannot build the model without the data's shape; what was trained is saved all the same."""
    folder = start.folder / "at-the-client"
    folder.mkdir()
    rng = np.random.default_rng(1)
    arrays = {"x_train": rng.random((60, 4), np.float32), "y_train": np.arange(60) % 3}
    np.savez(folder / "own.npz", **arrays, x_test=np.zeros((3, 4)), y_test=[0, 1, 2])
    flags = ("--dataset", "own.npz", "--model", "motionsense_dense", "--num-partitions", 1)
    server, address = start.server(*flags, "--no-central-evaluation", "--num-server-rounds", 1)
    client = start.client(address, 0, "--data-dir", folder, "--dataset", "own.npz")
    assert server.ended() == 0, server.err + client.err
    assert "the weights are in" in server.err
    with np.load(start.run_folder() / "weights.npz") as saved:
        assert saved["000.kernel"].shape == (4, 128)
