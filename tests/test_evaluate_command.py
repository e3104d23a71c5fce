"""`--evaluate RUN` and `fedkeras evaluate`: what a run's model gives when it is tested again, to the bit."""

import hashlib
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fedkeras import client, server
from fedkeras.commands.evaluate import EvaluateFlags, configuration, main
from fedkeras.config import Config
from fedkeras.errors import RunFailed, UserError
from fedkeras.reports import RunFolder, read_rows, resuming
from fedkeras.workflows.base import workflow_of
from fedkeras.workflows.evaluate.figures import table, worst_share
from fedkeras.workflows.evaluate.recorded_model import recorded_model, round_of
from fedkeras.workflows.evaluate.server import chosen_cids

ROOT = Path(__file__).parents[1]
CONFIG = Config(
    num_server_rounds=2, model="logistic_regression", batch_size=64, normaliser="zscore", num_partitions=4,
    partitioner="sizes", sizes="4,2,1,1",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def whatever_threads():
    """Another test may have started TensorFlow in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedkeras.learning.limit_threads", lambda n: None)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two rounds whose scaling is learned from all clients' rows."""
    return server.in_process(CONFIG, client.app, tmp_path_factory.mktemp("runs"))


def evaluated(folder, parent, **typed):
    """RUN tested again in this process: the folder that this leaves."""
    config = resuming.settings(Config(evaluate=str(folder.path)), lambda saved: replace(saved, **typed))
    return server.in_process(config, client.app, parent)


def lines(folder, number=None):
    """The evaluation's rows of a round (None: of all), without times and in an order of their own."""
    rows = [row for row in read_rows(folder.history_path) if number in (None, row["round"]) and row["phase"] != "train"]
    kept = [{name: value for name, value in row.items() if name != "seconds"} for row in rows]
    return sorted(kept, key=lambda row: str(row["client"]))


def digests(folder):
    files = sorted(path for path in folder.path.rglob("*") if path.is_file())
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_final_model_gives_the_last_round_s_figures_to_the_bit_and_the_run_is_left_as_it_is(run, tmp_path):
    before = digests(run)
    again = evaluated(run, tmp_path)
    assert lines(again) == lines(run, 2) and len(lines(again)) == 6
    assert digests(run) == before
    assert again.path.parent == tmp_path and again.path.name.endswith("-evaluated")
    assert {path.name for path in again.path.iterdir()} >= {"summary.json", "history.csv", "report.html", "config.json"}
    assert not again.checkpoints_path.exists() and not again.model_path.exists()
    assert "What was tested" in again.report_path.read_text()
    assert (again.path / "normaliser.npz").exists() is False  # it is the run's own


def test_an_earlier_round_and_a_model_file_without_checkpoints(run, tmp_path):
    assert lines(evaluated(run, tmp_path, evaluate_round="1")) == lines(run, 1)
    assert lines(run, 1)[0]["loss"] != lines(run, 2)[0]["loss"]
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(run.path, copy.path)
    shutil.rmtree(copy.checkpoints_path)
    assert recorded_model(copy, "final", False).path == copy.model_path
    assert lines(evaluated(copy, tmp_path)) == lines(run, 2)
    with pytest.raises(UserError, match="has no model of round 1: there is no checkpoint to test either"):
        evaluated(copy, tmp_path, evaluate_round="1")


def test_some_clients_are_scaled_as_all_were_and_none_leaves_the_central_test(run, tmp_path):
    whole = {line["client"]: line for line in lines(run, 2)}
    some = evaluated(run, tmp_path, evaluate_clients="1,3")
    found = {line["client"]: line for line in lines(some)}
    assert found.keys() == {"1", "3", "all", "server"}
    assert all(found[name] == whole[name] for name in ("1", "3", "server"))
    none = evaluated(run, tmp_path, evaluate_clients="none")
    assert lines(none) == [whole["server"]]


def test_a_split_run_is_tested_through_its_parts(tmp_path):
    config = Config(split="splitfed", num_server_rounds=1, batch_size=256)
    split = server.in_process(config, client.app, tmp_path)
    again = evaluated(split, tmp_path)
    assert lines(again) == lines(split, 1) and len(lines(again)) == 5


def test_a_client_that_cannot_test_is_named_and_the_run_failed(run, tmp_path):
    def app(message, context):
        if message.metadata.message_type == "evaluate" and context.node_config["partition-id"] == 2:
            raise ValueError("the disk is gone")
        return client.app(message, context)

    config = resuming.settings(Config(evaluate=str(run.path)), lambda saved: saved)
    with pytest.raises(RunFailed, match=r"1 of 4 clients did not test the model; 2: .*the disk is gone"):
        server.in_process(config, app, tmp_path)
    (folder,) = map(RunFolder, tmp_path.iterdir())
    assert '"status": "failed"' in folder.summary_path.read_text()


def test_the_table_by_hand():
    """Of eleven clients the worst tenth are two: accuracies 0.0 and 0.1, whose mean is 0.05."""
    rows = [
        {"client": str(cid), "num_examples": 10 + cid, "loss": 2.0 - cid / 10, "accuracy": cid / 10}
        for cid in range(11)
    ]
    assert [row["client"] for row in worst_share(rows)] == ["0", "1"]
    central = {"client": "server", "num_examples": 100, "loss": 1.0, "accuracy": 0.5}
    found = [line.split() for line in table([*reversed(rows), {**central, "client": "all"}, central])]
    assert [line[0] for line in found[1:12]] == [str(cid) for cid in range(11)]
    assert found[12] == ["worst", "10", "%", "(2", "clients)", "21", "1.9500", "0.0500"]
    assert found[13:] == [
        ["mean", "of", "clients", "100", "1.0000", "0.5000"],
        ["central", "test", "set", "100", "1.0000", "0.5000"],
    ]
    many = [{"client": str(cid), "num_examples": 1, "loss": 1.0, "accuracy": cid / 100} for cid in range(60)]
    shown = table(many)
    assert len(shown) == 1 + 40 + 1 + 1 and shown[-1] == "the 40 worst of 60 clients; all are in history.csv"
    assert max(map(len, shown)) <= 80 and shown[1].split()[0] == "0" and shown[40].split()[0] == "39"
    bad = {"client": "0", "num_examples": 1, "loss": float("nan"), "accuracy": 1.0}
    assert worst_share([bad, {**bad, "client": "1", "loss": 9.0, "accuracy": 0.0}]) == [bad]


def test_what_is_refused_in_one_line(run, tmp_path, capsys):
    def said(*args):
        assert main([str(run.path), *args]) == 2
        return capsys.readouterr().err

    assert "--tls-cert is for clients that join: --host says where" in said("--tls-cert", "x")
    assert main([str(tmp_path)]) == 2
    assert "there is no" in capsys.readouterr().err

    def refused(match, **typed):
        with pytest.raises(UserError, match=match):
            evaluated(run, tmp_path, **typed)

    refused("there is no client 4-5 among 4", evaluate_clients="0,4,5")
    refused("give all, none, or ids", evaluate_clients="some")
    refused("there are checkpoints of the rounds 1, 2", evaluate_round="7")
    refused("'x' is no round", evaluate_round="x")
    refused("--seed cannot be changed", seed=1)
    refused("leave nothing to test on", evaluate_clients="none", central_evaluation=False)
    with pytest.raises(UserError, match="it was no training in rounds \\(collect\\)"):
        config = replace(CONFIG, mode="collect", evaluate="runs/x")
        workflow_of(config).check(config)
    with pytest.raises(UserError, match="hold nothing out"):
        config = replace(CONFIG, test_fraction=0.0, evaluate="runs/x")
        workflow_of(config).check(config)
    with pytest.raises(UserError, match="says something of --evaluate RUN, which is missing"):
        server.in_process(replace(CONFIG, evaluate_round="best"), client.app, tmp_path)
    with pytest.raises(UserError, match="leave one of them out"):
        resuming.settings(Config(evaluate="a", resume="b"), lambda saved: saved)
    assert list(tmp_path.iterdir()) == []
    assert chosen_cids(replace(CONFIG, evaluate="x", evaluate_clients="1-2")) == [1, 2]


def test_a_run_without_an_end_names_its_checkpoints(run, tmp_path):
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(run.path, copy.path)
    assert round_of(copy, "best") in (1, 2)
    copy.summary_path.unlink()
    with pytest.raises(UserError, match="has not come to its end: there are checkpoints of the rounds 1, 2"):
        round_of(copy, "final")


def test_clients_with_files_of_their_own_are_not_started_here(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "own")
    saved = Config(dataset="ward.csv", label_column="y", partitioner="own", num_partitions=3)
    RunFolder(tmp_path / "own").write_config(saved)
    given = EvaluateFlags(str(tmp_path / "own"))
    with pytest.raises(UserError, match="clients have files of their own: --host says where they join again"):
        configuration(given)
    assert configuration(replace(given, host="127.0.0.1")).spawn == 0
    assert configuration(replace(given, clients="none")).spawn == 0


def test_clients_of_the_command_are_here_unless_a_host_is_named(run):
    here = configuration(EvaluateFlags(str(run.path)))
    assert (here.host, here.port, here.spawn, here.insecure) == ("127.0.0.1", 0, 1, False)
    there = configuration(EvaluateFlags(str(run.path), host="0.0.0.0", clients="1,3", insecure=True))
    assert (there.host, there.port, there.spawn, there.insecure) == ("0.0.0.0", 9080, 0, True)
    assert (there.min_available_nodes, there.fraction_evaluate) == (1, 1.0)
    assert configuration(EvaluateFlags(str(run.path), clients="none")).spawn == 0


@pytest.mark.slow
def test_over_real_connections_it_is_the_same(tmp_path):
    own = ["--num-server-rounds", "2", "--port", "0", "--run-dir", str(tmp_path / "runs")]
    subprocess.run([sys.executable, str(ROOT / "server.py"), "--spawn", "2", *own], check=True, capture_output=True)
    (folder,) = (tmp_path / "runs").iterdir()
    command = [sys.executable, "-m", "fedkeras", "evaluate", str(folder), "--into", str(tmp_path / "tests")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert "\nmean of clients " in done.stdout and "\ncentral test set " in done.stdout
    (again,) = (tmp_path / "tests").iterdir()
    assert lines(RunFolder(again)) == lines(RunFolder(folder), 2)
