"""Whole runs of Keras models by SCAFFOLD and FedNova: one client is SGD, runs go on, and every runtime has the bits."""

import json
from pathlib import Path

import pytest
from test_extensions_processes import ONE_PROCESS, ROOT, ended, fedkeras, only_run, outcome

from fedkeras import client, server
from fedkeras.config import Config
from fedkeras.reports import read_rows
from fedkeras.reports.checkpoints import newest_checkpoint

FLAGS = {"strategy": "scaffold", "num-partitions": 3, "num-server-rounds": 3, "seed": 5}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDKERAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda threads: None)


@pytest.fixture
def run(tmp_path: Path):
    def made(**fields):
        settings = {"num_partitions": 2, "num_server_rounds": 2, "seed": 3, "model": "logistic_regression", **fields}
        return server.in_process(Config(**settings), client.app, tmp_path / "runs")

    return made


def weights(folder):
    return {name: array.tobytes() for name, array in newest_checkpoint(folder).weights.items()}


@pytest.mark.parametrize("optimizer_args", ["", "momentum=0.9"])
def test_scaffold_of_one_client_is_sgd_bit_for_bit(run, optimizer_args):
    own = {"num_partitions": 1, "num_server_rounds": 3, "local_epochs": 2, "optimizer_args": optimizer_args}
    assert weights(run(strategy="scaffold", **own)) == weights(run(strategy="fedavg", **own))


def test_a_run_that_goes_on_has_the_bits_of_one_that_was_never_interrupted(run):
    whole, first = (run(strategy="scaffold", num_server_rounds=n, partitioner="dirichlet", alpha=0.3) for n in (3, 2))
    run(strategy="scaffold", num_server_rounds=3, partitioner="dirichlet", alpha=0.3, resume=str(first.path))
    assert weights(first) == weights(whole)
    assert json.loads(first.summary_path.read_text())["control_variates_lost"] == 0


def test_what_was_added_is_said_and_bytes_are_twice_down(run):
    folder, plain = run(strategy="scaffold", num_server_rounds=1), run(num_server_rounds=1)
    config = json.loads((folder.path / "config.json").read_text())
    assert config["chosen"]["strategy"] == "scaffold needs --mods control-variates, which is added"
    ours, theirs = (
        next(row for row in read_rows(each.history_path) if (row["phase"], row["client"]) == ("train", "0"))
        for each in (folder, plain)
    )
    assert ours["bytes_up"] == theirs["bytes_up"] and ours["bytes_down"] == 2 * theirs["bytes_down"]
    steps = -(-ours["num_examples"] // Config().batch_size)
    assert ours["local_steps"] == steps and "local_steps" not in theirs


@pytest.fixture(scope="module")
def in_process(tmp_path_factory):
    """In a process of its own, where TensorFlow has one thread, as in a client's."""
    folder = tmp_path_factory.mktemp("in-process")
    ended(fedkeras(folder, "-c", ONE_PROCESS, **FLAGS))
    return outcome(only_run(folder))


@pytest.mark.slow
def test_over_grpc_it_has_the_bits_of_one_process(tmp_path, in_process):
    ended(fedkeras(tmp_path, ROOT / "server.py", spawn=2, port=0, **FLAGS))
    assert outcome(only_run(tmp_path)) == in_process


@pytest.mark.slow
def test_in_the_simulation_it_has_the_bits_of_one_process(tmp_path, in_process):
    """Flower tells clients what was typed: they add their half by themselves."""
    ended(fedkeras(tmp_path, "-m", "fedkeras", "simulate", **FLAGS))
    assert outcome(only_run(tmp_path)) == in_process
