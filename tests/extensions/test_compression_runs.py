"""Whole runs of Keras models with compression: resumed, tested again, handed out, and in every runtime, bit for bit."""

import json
import shutil
from pathlib import Path

import pytest
from test_extensions_processes import ONE_PROCESS, ROOT, ended, fedkeras, only_run, outcome

from fedkeras import client, server
from fedkeras.config import Config
from fedkeras.reports import read_rows
from fedkeras.reports.checkpoints import newest_checkpoint

MODS = "compress:up=int8,topk=0.1,down=int8"
FLAGS = {"num-partitions": 3, "num-server-rounds": 3, "seed": 5}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDKERAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def run(tmp_path: Path):
    def made(**fields):
        settings = {"num_partitions": 2, "num_server_rounds": 2, "seed": 3, "mods": MODS, **fields}
        return server.in_process(Config(**settings), client.app, tmp_path / "runs")

    return made


def weights(folder):
    return {name: array.tobytes() for name, array in newest_checkpoint(folder).weights.items()}


def test_a_run_that_goes_on_has_the_bits_of_one_that_was_never_interrupted(run, cache):
    whole, first = run(num_server_rounds=3), run(num_server_rounds=2)
    run(num_server_rounds=3, resume=str(first.path))
    assert weights(first) == weights(whole)
    told = json.loads(first.summary_path.read_text())["compression"]
    assert (
        told["residuals_lost"] == 0
        and told["bytes"] == json.loads(whole.summary_path.read_text())["compression"]["bytes"]
    )


def test_without_its_residuals_it_goes_on_and_says_so(run, cache):
    whole, first = run(num_server_rounds=3), run(num_server_rounds=2)
    shutil.rmtree(cache / "client-state")
    run(num_server_rounds=3, resume=str(first.path))
    assert weights(first) != weights(whole)
    assert json.loads(first.summary_path.read_text())["compression"]["residuals_lost"] == 2
    assert "client 1 has lost what it had not sent yet" in first.log_path.read_text()
    assert "began without what they had not sent" in first.report_path.read_text()


def test_bytes_are_in_history_summary_and_report(run):
    folder = run(mods="compress:up=int8,down=float16", num_server_rounds=1)
    rows = [row for row in read_rows(folder.history_path) if row["client"] in "01"]
    told = json.loads(folder.summary_path.read_text())["compression"]
    assert told["bytes"]["up"] == sum(row["bytes_up"] for row in rows) > 0
    assert told["bytes"]["down"] == sum(row["bytes_down"] for row in rows) > 0
    assert told["bytes"]["up"] / told["bytes"]["up_plain"] == pytest.approx(0.26, abs=0.005), "digits: with headers"
    page = folder.report_path.read_text()
    assert "Compression" in page and "(as int8)" in page


def test_a_runs_model_is_tested_again_as_it_was_after_its_round(run, tmp_path):
    folder = run(mods="compress:up=int8,down=int8")

    def figures(path):
        rows = [row for row in read_rows(path) if row["phase"] == "evaluate" and row["round"] == 2]
        return {row["client"]: (row["loss"], row["accuracy"]) for row in rows}

    again = server.in_process(
        Config(num_partitions=2, seed=3, mods="compress:up=int8,down=int8", evaluate=str(folder.path)),
        client.app,
        tmp_path / "again",
    )
    assert figures(again.history_path) == figures(folder.history_path)


@pytest.fixture(scope="module")
def in_process(tmp_path_factory):
    """In a process of its own, where TensorFlow has one thread, as in a client's."""
    folder = tmp_path_factory.mktemp("in-process")
    ended(fedkeras(folder, "-c", ONE_PROCESS, mods=MODS, **FLAGS))
    return outcome(only_run(folder))


@pytest.mark.slow
def test_over_grpc_a_compressed_run_has_the_bits_of_one_process(tmp_path, in_process):
    """Two processes serve three clients between them: a residual is where the next message meets its client."""
    ended(fedkeras(tmp_path, ROOT / "server.py", mods=MODS, spawn=2, port=0, **FLAGS))
    assert outcome(only_run(tmp_path)) == in_process


@pytest.mark.slow
def test_in_the_simulation_a_compressed_run_has_the_bits_of_one_process(tmp_path, in_process):
    ended(fedkeras(tmp_path, "-m", "fedkeras", "simulate", mods=MODS, **FLAGS))
    assert outcome(only_run(tmp_path)) == in_process
