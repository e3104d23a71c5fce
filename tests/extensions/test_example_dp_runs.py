"""Whole runs with `--mods dp-sgd`: what reaches the server, what they leave behind, and that they go on."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flwr.app import MessageType

from fedkeras import client, server
from fedkeras.config import Config
from fedkeras.errors import RunFailed, UserError
from fedkeras.reports import RunFolder, read_rows
from fedkeras.reports.checkpoints import newest_checkpoint

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "num_partitions": 4, "num_server_rounds": 3, "seed": 3, "model": "logistic_regression", "batch_size": 64,
}  # fmt: skip
STUDY = "dp-sgd:noise-multiplier=1.0,delta=1e-4,study=true"
PRIVATE = "dp-sgd:epsilon=4,delta=1e-4"


def in_process(parent, app=client.app, **fields):
    return server.in_process(Config(**{**SETTINGS, "mods": STUDY, **fields}), app, parent)


def weights(folder):
    return newest_checkpoint(folder).weights


def ledger_of(folder):
    return json.loads((folder.path / "example-privacy.json").read_text())


def recording(replies):
    def app(message, context):
        reply = client.app(message, context)
        replies.append((message.metadata.message_type, reply))
        return reply

    return app


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A study of three rounds, and every reply that reached the server."""
    replies = []
    return in_process(tmp_path_factory.mktemp("runs"), recording(replies)), replies


def test_nothing_that_was_measured_on_examples_reaches_the_server(recorded):
    folder, replies = recorded
    assert {kind for kind, _ in replies} == {"query.initial_weights", "train"}
    allowed = {"num-examples", "dp-sgd-noise", "dp-sgd-rate", "dp-sgd-steps"}
    for kind, reply in replies:
        if kind == MessageType.TRAIN:
            assert set(reply.content) == {"arrays", "metrics"} and set(reply.content["metrics"]) == allowed
    rows = read_rows(folder.history_path)
    assert {(row["phase"], row["client"]) for row in rows} == {("train", "all"), ("evaluate", "server")}
    assert all(set(row) <= {"round", "phase", "client", "num_examples", "seconds", "epsilon", "epsilon_median"}
               for row in rows[::2])  # fmt: skip


def test_epsilon_is_in_history_summary_ledger_and_report(recorded):
    folder, _ = recorded
    rounds = ledger_of(folder)["rounds"]
    rows = [row for row in read_rows(folder.history_path) if row["phase"] == "train"]
    assert [(row["epsilon"], row["epsilon_median"]) for row in rows] == [(e["worst"], e["median"]) for e in rounds]
    spent = [row["epsilon"] for row in rows]
    assert spent == sorted(spent) and len(set(spent)) == 3 and rows[-1]["epsilon_median"] <= spent[-1]
    summary = json.loads(folder.summary_path.read_text())
    assert summary["example_privacy"]["epsilon"] == spent[-1] and not summary["example_privacy"]["private"]
    assert any(text.startswith("NOT PRIVATE") for text in summary["warnings"])
    page = folder.report_path.read_text()
    assert "Privacy of examples" in page and f"Epsilon {spent[-1]:.4g} at delta 0.0001" in page
    assert "NOT PRIVATE" in page and "counts as public" in page


def test_a_study_is_repeatable_and_goes_on_as_it_would_have(recorded, tmp_path):
    folder, _ = recorded
    part = in_process(tmp_path, num_server_rounds=2)
    before = weights(part)
    in_process(tmp_path, num_server_rounds=3, resume=str(part.path))
    assert any(not np.array_equal(before[name], array) for name, array in weights(part).items())
    for name, array in weights(folder).items():
        assert np.array_equal(array, weights(part)[name]), name
    assert {account["asked"] for account in ledger_of(part)["clients"].values()} == {3}
    assert ledger_of(part) == ledger_of(folder)


@pytest.mark.slow
def test_a_private_run_is_another_each_time_and_learns(tmp_path):
    fields = {"mods": PRIVATE, "num_server_rounds": 4, "batch_size": 32, "learning_rate": 0.5, "local_epochs": 2}
    one, other = (in_process(tmp_path / name, **fields) for name in ("one", "other"))
    assert any(not np.array_equal(weights(one)[name], array) for name, array in weights(other).items())
    summary = json.loads(one.summary_path.read_text())
    assert summary["accuracy"] > 0.5 and 3.9 < summary["example_privacy"]["epsilon"] <= 4
    assert summary["example_privacy"]["private"]


def test_a_run_that_died_in_a_round_pays_for_it_again_and_ends_within_its_budget(tmp_path):
    """The server dies when the second round's first answer comes: what was asked by then counts."""
    asked = []

    def dying(message, context):
        asked.append(message.metadata.message_type)
        if asked.count("train") == 6:
            raise KeyboardInterrupt
        return client.app(message, context)

    with pytest.raises((KeyboardInterrupt, RunFailed)):
        in_process(tmp_path, dying, mods=PRIVATE)
    [path] = tmp_path.iterdir()
    with pytest.raises(UserError, match="the run was begun with privacy of examples 'epsilon 4"):
        in_process(tmp_path, mods=PRIVATE, resume=str(path), num_server_rounds=9)
    folder = in_process(tmp_path, mods=PRIVATE, resume=str(path))
    ledger = ledger_of(folder)
    assert ledger["attempts"] == 3 and {account["asked"] for account in ledger["clients"].values()} == {3}
    assert [entry["round"] for entry in ledger["rounds"]] == [1, 2]
    assert ledger["rounds"][-1]["worst"] <= 4
    summary = json.loads(folder.summary_path.read_text())
    assert (summary["status"], summary["rounds"]) == ("finished", 2)


def with_normalisation(input_shape, num_classes):
    import keras
    from keras import layers

    stack = [layers.Flatten(), layers.Dense(8), layers.BatchNormalization(), layers.Dense(num_classes, "softmax")]
    return keras.Sequential([keras.Input(input_shape), *stack])


def test_batch_normalisation_is_refused_before_a_client_trains(tmp_path):
    replies = []
    with pytest.raises(UserError, match=r"BatchNormalization.*take GroupNormalization or LayerNormalization"):
        in_process(tmp_path, recording(replies), model=f"{__name__}:with_normalisation")
    assert MessageType.TRAIN not in [kind for kind, _ in replies]


@pytest.mark.parametrize(
    "strategy", ["fedprox", *(pytest.param(name, marks=pytest.mark.slow) for name in ("fedadam", "fedmedian"))]
)
def test_strategies_go_with_it(tmp_path, strategy):
    folder = in_process(tmp_path, strategy=strategy, num_server_rounds=1)
    assert read_rows(folder.history_path)[0]["epsilon"] > 0


def test_stragglers_that_are_dropped_pay_nothing(tmp_path):
    mods = f"stragglers:share=0.5,drop=true; {STUDY}"
    folder = in_process(tmp_path, mods=mods, num_server_rounds=1, rest_after=0)
    assert sorted(account["asked"] for account in ledger_of(folder)["clients"].values()) == [1, 1]


@pytest.mark.slow
def test_beside_privacy_of_clients_each_client_counts_for_itself(tmp_path):
    mods = "dp:noise-multiplier=1.0,delta=1e-3,clip=0.5,study=true; dp-sgd:epsilon=4,delta=1e-4,study=true"
    replies = []
    more = {"client_weights": "uniform", "rest_after": 0, "fraction_train": 0.5}
    folder = in_process(tmp_path, recording(replies), mods=mods, **more)
    ledger = ledger_of(folder)
    assert ledger["clients"] == {} and all(entry["worst"] is None for entry in ledger["rounds"])
    sent = [set(reply.content["metrics"]) for kind, reply in replies if kind == MessageType.TRAIN]
    assert all(names == {"num-examples", "dp-within"} for names in sent)
    assert json.loads(folder.summary_path.read_text())["privacy"]["epsilon"] > 0
    assert "Single clients are kept from the server" in folder.report_path.read_text()


@pytest.mark.slow
def test_beside_secure_aggregation_the_server_sees_the_sum_alone(tmp_path):
    mods = "secure-aggregation:study=true; dp-sgd:epsilon=4,delta=1e-4,study=true"
    folder = in_process(tmp_path, mods=mods, num_server_rounds=2)
    assert ledger_of(folder)["clients"] == {}
    plain = in_process(tmp_path / "plain", mods="dp-sgd:epsilon=4,delta=1e-4,study=true", num_server_rounds=2)
    for name, array in weights(folder).items():
        np.testing.assert_allclose(array, weights(plain)[name], atol=1e-3)


@pytest.mark.slow
def test_a_study_is_the_same_over_grpc_and_in_one_process(tmp_path):
    words = ["-m", "fedkeras", "server", "--spawn", "2", "--port", "0", "--run-dir", str(tmp_path), "--mods", STUDY]
    for name, value in SETTINGS.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 240, "env": environment}
    grpc = subprocess.run([sys.executable, *words], **run)
    assert grpc.returncode == 0, grpc.stderr
    assert re.search(r"dp-sgd: epsilon .* the worst of 4; median .*; NOT PRIVATE", grpc.stdout)
    [path] = tmp_path.iterdir()
    lines = (
        "from pathlib import Path",
        "from fedkeras import client, server",
        "from fedkeras.config import Config",
        f"print(server.in_process(Config(mods={STUDY!r}, **{SETTINGS!r}), client.app, Path({str(tmp_path)!r})).path)",
    )
    alone = subprocess.run([sys.executable, "-c", "\n".join(lines)], **run)
    assert alone.returncode == 0, alone.stderr
    other = weights(RunFolder(Path(alone.stdout.strip().splitlines()[-1])))
    for name, array in weights(RunFolder(path)).items():
        assert np.array_equal(array, other[name]), name
