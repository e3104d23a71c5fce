"""Whole runs with `--mods dp`: what they leave behind, that they go on, and that all runtimes give the same."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedkeras import client, server
from fedkeras.commands import check, report
from fedkeras.config import Config
from fedkeras.errors import RunFailed, UserError
from fedkeras.reports import RunFolder, read_rows
from fedkeras.reports.checkpoints import newest_checkpoint

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "num_partitions": 6, "num_server_rounds": 3, "fraction_train": 0.5, "client_weights": "uniform", "rest_after": 0,
    "seed": 3, "model": "logistic_regression",
}  # fmt: skip
STUDY = "dp:noise-multiplier=1.0,delta=1e-3,clip=adaptive,study=true"


def in_process(parent, app=client.app, **fields):
    return server.in_process(Config(**{**SETTINGS, "mods": STUDY, **fields}), app, parent)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A study of three rounds, and the content of every reply that reached the server."""
    replies = []

    def app(message, context):
        reply = client.app(message, context)
        replies.append((message.metadata.message_type, context.node_config["partition-id"], reply))
        return reply

    return in_process(tmp_path_factory.mktemp("runs"), app), replies


def weights(folder):
    return newest_checkpoint(folder).weights


def test_nothing_of_a_client_is_in_any_reply_table_or_page_but_its_bounded_update(recorded):
    folder, replies = recorded
    assert {kind for kind, *_ in replies} == {"query.initial_weights", "train"}
    for kind, _, reply in replies:
        if kind == "train":
            assert set(reply.content) == {"arrays", "metrics"}
            assert set(reply.content["metrics"]) == {"num-examples", "dp-within"}
            assert reply.content["metrics"]["num-examples"] == 1
    rows = read_rows(folder.history_path)
    assert {(row["phase"], row["client"]) for row in rows} == {("train", "all"), ("evaluate", "server")}
    assert all(set(row) <= {"round", "phase", "client", "num_examples", "seconds", "epsilon"} for row in rows[::2])
    assert all(row["num_examples"] == 0 for row in rows[::2])
    assert not folder.partitions_path.exists() and not folder.failures_path.exists()
    page = folder.report_path.read_text()
    assert page.count("Kept out of this page: who took part is a secret") == 3
    assert "No client failed" not in page and "0 failures" not in page
    assert "of each client" not in page and "Examples by client and label" not in page


def test_epsilon_is_in_history_summary_and_report_and_a_study_says_that_it_is_none(recorded):
    folder, _ = recorded
    ledger = json.loads((folder.path / "privacy.json").read_text())["rounds"]
    spent = [row["epsilon"] for row in read_rows(folder.history_path) if row["phase"] == "train"]
    assert spent == [entry["epsilon"] for entry in ledger] and spent == sorted(spent) and len(spent) == 3
    summary = json.loads(folder.summary_path.read_text())
    assert summary["privacy"] == {"epsilon": spent[-1], "delta": 1e-3, "noise": 1.0, "private": False}
    assert any(text.startswith("NOT PRIVATE") for text in summary["warnings"])
    page = folder.report_path.read_text()
    assert page.count("NOT PRIVATE") >= 2 and f"{spent[-1]:.4g} at delta 0.001 was spent in 3 rounds" in page


def test_the_report_is_made_again_with_the_same_section(recorded, tmp_path, capsys):
    folder, _ = recorded
    out = tmp_path / "again.html"
    assert report.main([str(folder.path), "--out", str(out)]) == 0
    assert "<h2>Privacy" in re.sub(r'<h2 id="[^"]*">', "<h2>", out.read_text()) or "Privacy" in out.read_text()
    assert capsys.readouterr().err == ""


def test_a_study_is_repeatable_and_goes_on_as_it_would_have(recorded, tmp_path):
    """After a resumption the noise and the cohorts of later rounds are the same, and every round is paid for."""
    folder, _ = recorded
    part = in_process(tmp_path, num_server_rounds=2)
    before = weights(part)
    in_process(tmp_path, num_server_rounds=3, resume=str(part.path))
    assert any(not np.array_equal(before[name], array) for name, array in weights(part).items())
    for name, array in weights(folder).items():
        assert np.array_equal(array, weights(part)[name]), name
    assert [entry["round"] for entry in json.loads((part.path / "privacy.json").read_text())["rounds"]] == [1, 2, 3]


def test_a_private_run_killed_before_its_checkpoint_pays_again_and_ends_within_its_budget(tmp_path, monkeypatch):
    """It dies after round 2 was entered and before its checkpoint: round 2 costs twice, and round 3 is not done."""
    mods = "dp:epsilon=4,delta=1e-3,clip=0.5"
    from fedkeras.workflows.checkpointer import Checkpointer

    kept = Checkpointer._keep

    def dying(self, result):
        if result.round == 2:
            raise UserError("killed")
        kept(self, result)

    with monkeypatch.context() as patch, pytest.raises(RunFailed, match="killed"):
        patch.setattr(Checkpointer, "_keep", dying)
        in_process(tmp_path, mods=mods)
    [path] = tmp_path.iterdir()
    with pytest.raises(UserError, match="the run was begun with privacy 'epsilon 4"):
        in_process(tmp_path, mods=mods, resume=str(path), num_server_rounds=9)
    folder = in_process(tmp_path, mods=mods, resume=str(path))
    ledger = json.loads((path / "privacy.json").read_text())
    assert [entry["round"] for entry in ledger["rounds"]] == [1, 2, 2]
    assert ledger["rounds"][-1]["epsilon"] <= 4 and ledger["terms"]["study"] is False
    summary = json.loads(folder.summary_path.read_text())
    assert (summary["status"], summary["rounds"]) == ("finished", 2)


def test_a_model_that_is_tested_again_costs_nothing_and_no_client_is_asked(recorded, tmp_path):
    folder, _ = recorded

    def nobody(message, context):
        raise AssertionError(message.metadata.message_type)

    words = {"evaluate": str(folder.path), "evaluate_round": "final"}
    with pytest.raises(UserError, match="fedkeras evaluate RUN --clients none"):
        in_process(tmp_path, nobody, **words)
    again = in_process(tmp_path, nobody, evaluate_clients="none", **words)
    assert not (again.path / "privacy.json").exists()
    summaries = [json.loads(each.summary_path.read_text()) for each in (folder, again)]
    assert summaries[0]["accuracy"] == summaries[1]["accuracy"] and "privacy" not in summaries[1]


def with_normalisation(input_shape, num_classes):
    import keras
    from keras import layers

    stack = [layers.Flatten(), layers.Dense(8), layers.BatchNormalization(), layers.Dense(num_classes, "softmax")]
    return keras.Sequential([keras.Input(input_shape), *stack])


def test_batch_normalisation_is_refused_by_the_run_and_by_check(tmp_path, capsys):
    trained = []

    def app(message, context):
        trained.append(message.metadata.message_type)
        return client.app(message, context)

    model = f"{__name__}:with_normalisation"
    with pytest.raises(UserError, match="does not go with BatchNormalization") as refused:
        in_process(tmp_path, app, model=model)
    assert refused.value.status == 2 and "train" not in trained
    flags = [
        "--model",
        model,
        "--port",
        "0",
        "--num-partitions",
        "6",
        "--client-weights",
        "uniform",
        "--rest-after",
        "0",
    ]
    assert check.main([*flags, "--mods", STUDY]) == 2
    assert "does not go with BatchNormalization" in capsys.readouterr().err


def test_check_says_what_will_be_spent_and_how_little_that_protects(capsys):
    flags = ["--num-partitions", "50", "--fraction-train", "0.1", "--client-weights", "uniform", "--rest-after", "0"]
    flags += ["--model", "logistic_regression", "--port", "0", "--mods", "dp:epsilon=50,delta=1e-3"]
    assert check.main(flags) == 0
    out = capsys.readouterr().out
    assert re.search(
        r"privacy: epsilon 50.0 at delta 0.001 after 10 rounds of 5 of 50 clients needs noise 0\.2\d+", out
    )
    assert "warning: epsilon 50 at delta 0.001 with 50 clients protects hardly anybody" in out


@pytest.mark.slow
def test_a_study_is_the_same_over_grpc_and_in_one_process(tmp_path):
    """Processes of the same number of threads: the same bits."""
    words = ["-m", "fedkeras", "server", "--spawn", "2", "--port", "0", "--run-dir", str(tmp_path), "--mods", STUDY]
    for name, value in SETTINGS.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    grpc = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert grpc.returncode == 0, grpc.stderr
    assert "NOT PRIVATE (study=true)" in grpc.stdout and "clients   epsilon" in grpc.stdout
    [path] = tmp_path.iterdir()
    lines = (
        "from pathlib import Path",
        "from fedkeras import client, server",
        "from fedkeras.config import Config",
        f"print(server.in_process(Config(mods={STUDY!r}, **{SETTINGS!r}), client.app, Path({str(tmp_path)!r})).path)",
    )
    words = ["-c", "\n".join(lines)]
    alone = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert alone.returncode == 0, alone.stderr
    other = weights(RunFolder(Path(alone.stdout.strip())))
    for name, array in weights(RunFolder(path)).items():
        assert np.array_equal(array, other[name]), name
