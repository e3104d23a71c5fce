"""Secure aggregation over real processes: the same model in every runtime, and a client that is killed meanwhile."""

import json
import subprocess
import sys

import numpy as np
import pytest
from processes import HERE, ROOT, SLOW_MACHINE

from fedkeras.reports import RunFolder, read_rows
from fedkeras.reports.checkpoints import newest_checkpoint

FLAGS = (
    "--num-partitions", 5, "--num-server-rounds", 2, "--seed", 3, "--model", "logistic_regression", "--mods",
    "secure-aggregation:max-dropout=0.2,clip=0.5",
)  # fmt: skip
ONE_PROCESS = """
import sys
from pathlib import Path
from fedkeras import client, server
from fedkeras.config import Config
server.in_process(Config.from_flags(sys.argv[1:], "server.py", None), client.app, Path("runs"))
"""


def outcome(folder):
    """The final weights, and the figures without what a clock says and the server's own, which has other threads."""
    rows = read_rows(folder.history_path)
    figures = [
        {key: row[key] for key in ("round", "phase", "client", "num_examples", "loss", "accuracy")} for row in rows
    ]
    return newest_checkpoint(folder).weights, [row for row in figures if row["client"] != "server"]


def assert_same(one, other):
    assert one[1] == other[1]
    assert all(np.array_equal(array, other[0][name]) for name, array in one[0].items())


@pytest.mark.slow
def test_the_model_is_the_same_to_the_bit_in_one_process_over_grpc_and_in_the_simulation(start, tmp_path):
    """Keys are fresh in each of them; what is summed is not."""
    found = []
    for name, words in (
        ("alone", ["-c", ONE_PROCESS]),
        ("grpc", [ROOT / "server.py", "--spawn", 2, "--port", 0]),
        ("ray", ["-m", "fedkeras", "simulate"]),
    ):
        (tmp_path / name).mkdir()
        command = [sys.executable, *map(str, words), *map(str, FLAGS)]
        ended = subprocess.run(command, cwd=tmp_path / name, capture_output=True, text=True, timeout=SLOW_MACHINE)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        [folder] = (tmp_path / name / "runs").iterdir()
        found.append(outcome(RunFolder(folder)))
    assert_same(found[0], found[1])
    assert_same(found[0], found[2])
    assert {row["client"] for row in found[0][1]} == {"all"}


@pytest.mark.slow
def test_a_client_that_is_killed_when_it_is_asked_for_its_vector_is_taken_out_of_the_sum(start):
    server, address = start.server(*FLAGS, "--reconnect-grace", 1, "--node-timeout", SLOW_MACHINE)
    others = start.client(address, "0-3")
    doomed = start.python(HERE / "secure_client.py", "secagg_mask", "--server", address, "--cid", 4)
    assert doomed.ended() == -9, doomed.err
    assert server.ended() == 0, server.err
    assert others.ended() == 0, others.err
    folder = RunFolder(start.run_folder())
    entries = json.loads((folder.path / "secure_aggregation.json").read_text())
    first = next(entry for entry in entries if entry["kind"] == "train")
    assert (first["asked"], first["summed"], first["lost"]["mask"]) == (5, 4, 1)
    [training] = [row for row in read_rows(folder.history_path) if (row["round"], row["phase"]) == (1, "train")]
    assert 0 < training["num_examples"] < 1292 and training["client"] == "all"
    assert "client 4" in folder.log_path.read_text()


@pytest.mark.slow
def test_accuracy_is_plain_fedavgs_within_its_spread_over_seeds(tmp_path):
    """Digits, ten rounds of five clients; the same seed with and without, and plain runs of other seeds."""
    lines = """
import sys
from pathlib import Path
from fedkeras import client, server
from fedkeras.config import Config
from fedkeras.reports import read_rows
import fedkeras.learning
fedkeras.learning.limit_threads = lambda n: None
for seed, mods in [(seed, mods) for mods in ("", "secure-aggregation") for seed in (1, 2, 3)]:
    config = Config(num_partitions=5, num_server_rounds=10, seed=seed, model="logistic_regression", mods=mods)
    folder = server.in_process(config, client.app, Path("runs"))
    print("ACCURACY", [row["accuracy"] for row in read_rows(folder.history_path) if row["client"] == "server"][-1])
"""
    ended = subprocess.run(
        [sys.executable, "-c", lines], cwd=tmp_path, capture_output=True, text=True, timeout=SLOW_MACHINE
    )
    assert ended.returncode == 0, ended.stderr
    found = [float(line.split()[1]) for line in ended.stdout.splitlines() if line.startswith("ACCURACY")]
    plain, secure = np.array(found[:3]), np.array(found[3:])
    assert plain.min() > 0.8
    assert np.abs(plain - secure).max() <= max(plain.max() - plain.min(), 0.003)
