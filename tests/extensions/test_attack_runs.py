"""Whole runs of Keras models with malicious clients: what is poisoned, and that nobody takes them for honest ones."""

import json
from pathlib import Path

import pytest
from test_extensions_processes import ONE_PROCESS, ROOT, ended, fedkeras, only_run, outcome

from fedkeras import client, server
from fedkeras.config import Config
from fedkeras.reports import read_rows

FLAGS = {"num-partitions": 4, "num-server-rounds": 2, "seed": 5, "model": "logistic_regression"}


def test_a_backdoor_is_learned_and_the_run_says_what_it_is(tmp_path):
    """All but one client are malicious, so a median learns it; the trigger alone does nothing to an honest model."""
    success = {}
    for malicious in (0, 0.75):
        config = Config(
            num_partitions=4, num_server_rounds=2, local_epochs=3, model="logistic_regression", fraction_evaluate=0,
            mods=f"backdoor:malicious={malicious},value=3,boost=2", strategy="fedmedian", learning_rate=0.5,
        )  # fmt: skip
        folder = server.in_process(config, client.app, tmp_path / str(malicious))
        rows = [row for row in read_rows(folder.history_path) if row["client"] == "server"]
        success[malicious] = rows[-1]["attack_success"]
        told = json.loads(folder.summary_path.read_text())
        assert told["attack"]["success"] == success[malicious] and len(told["attack"]["malicious"]) == 4 * malicious
    assert success[0] < 0.3 and success[0.75] > 0.9
    [warning] = told["warnings"]
    assert warning.startswith("A STUDY, NO HONEST RUN: backdoor: 3 of 4 clients were made malicious")
    assert json.loads((folder.path / "config.json").read_text())["chosen"]["attack"] in warning
    page = folder.report_path.read_text()
    assert "<h2>Attack</h2>" in page and "A STUDY, NO HONEST RUN" in page


@pytest.mark.slow
def test_over_grpc_a_run_has_the_bits_of_one_process(tmp_path: Path) -> None:
    """Colluders meet though their answers come from two processes."""
    mods = "alie:malicious=0.5,z=1.5"
    for name in ("one", "several"):
        (tmp_path / name).mkdir()
    ended(fedkeras(tmp_path / "one", "-c", ONE_PROCESS, mods=mods, **FLAGS))
    ended(fedkeras(tmp_path / "several", ROOT / "server.py", mods=mods, spawn=2, port=0, **FLAGS))
    assert outcome(only_run(tmp_path / "several")) == outcome(only_run(tmp_path / "one"))


@pytest.mark.slow
def test_a_run_that_goes_on_has_the_same_liars_and_history(tmp_path):
    """Centred clipping's memory is in the checkpoint, beside what the attack has measured."""

    def run(**fields):
        settings = {"num_partitions": 4, "model": "logistic_regression", "strategy": "centered-clipping"}
        mods = "backdoor:malicious=0.5"
        return server.in_process(Config(**settings, mods=mods, **fields), client.app, tmp_path / "runs")

    whole, first = run(num_server_rounds=3), run(num_server_rounds=2)
    run(num_server_rounds=3, resume=str(first.path))
    assert outcome(first) == outcome(whole)
