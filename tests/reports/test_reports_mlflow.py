"""--mlflow: what MLflow has of a run, read back from a real store; a resumed run; a store that is gone."""

import json
import shutil
import socket
import sys

import pytest
from test_reports_recorder import outcome, record

from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.reports import Recorder, check_extras, create_run_folder
from fedkeras.reports import mlflow as ours


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """A database with MLflow's tables and nothing in them, which take seconds to make."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch, empty_store):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ours.SURROUNDINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)  # so that files which were put into the working directory would be seen
    made = create_run_folder(tmp_path / "runs", "digits-fedavg", Config())
    shutil.copy(empty_store, made.path.parent)
    return made


def stored(folder):
    """The client and the only run of the experiment, from the store beside the run."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder.path.parent / 'mlflow.db'}")
    [run] = client.search_runs([client.get_experiment_by_name("fedkeras").experiment_id])
    return client, run


CONFIG = Config(mlflow=True, num_server_rounds=3, learning_rate=0.05)


def test_a_run_is_there_with_settings_figures_and_report(folder, tmp_path):
    folder.write_config(CONFIG)
    record(folder, [outcome(n) for n in range(4)], CONFIG)
    client, run = stored(folder)
    assert run.info.status == "FINISHED" and run.info.run_name == folder.path.name
    assert run.data.params["learning-rate"] == "0.05" and run.data.params["strategy"] == "fedavg"
    assert run.data.tags["dataset"] == "digits" and run.data.tags["run-folder"] == str(folder.path)
    history = client.get_metric_history(run.info.run_id, "evaluate/accuracy/server")
    assert [(point.step, point.value) for point in history] == [(0, 0.1), (1, 0.5), (2, 0.9), (3, 0.8)]
    loss = client.get_metric_history(run.info.run_id, "train/loss/client-0")
    assert [(point.step, point.value) for point in loss] == [(1, 4.0), (2, 4.0), (3, 4.0)]
    final = {name: run.data.metrics[name] for name in ("final/accuracy", "final/loss", "best/accuracy", "best/loss")}
    assert final == {"final/accuracy": 0.8, "final/loss": 0.6, "best/accuracy": 0.9, "best/loss": 0.5}
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"report.html", "curves.png", "config.json", "summary.json", "history.csv"}
    assert run.info.artifact_uri.startswith((tmp_path / "runs" / "mlruns").as_uri())
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_resumed_run_goes_on_in_its_own(folder):
    with pytest.raises(KeyboardInterrupt), Recorder(folder, CONFIG, live=False) as recorder:
        recorder.on_round_end(outcome(1))
        raise KeyboardInterrupt
    assert stored(folder)[1].info.status == "KILLED"
    record(folder, [outcome(2)], Config(mlflow=True, num_server_rounds=2, learning_rate=0.05))
    client, run = stored(folder)
    assert run.info.status == "FINISHED" and run.data.params["num-server-rounds"] == "3"
    assert run.data.tags["resumed/num-server-rounds"] == "2"
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "train/loss/all")]
    assert steps == [1, 2]
    assert json.loads(folder.mlflow_path.read_text())["run-id"] == run.info.run_id


def test_many_clients_are_not_sent_one_by_one(folder):
    config = Config(mlflow=True, num_partitions=ours.MANY + 1)
    record(folder, [outcome(1)], config)
    names = set(stored(folder)[1].data.metrics)
    assert "train/loss/all" in names and "evaluate/loss/server" in names
    assert not any("client-" in name for name in names)


def test_a_store_that_fails_is_one_warning_and_loses_nothing_it_takes_later(folder, caplog, monkeypatch):
    database = folder.path.parent / "mlflow.db"
    with Recorder(folder, CONFIG, live=False) as recorder:
        recorder.on_round_end(outcome(1))
        [tracker] = recorder._trackers
        wait_for(tracker)
        content = database.read_bytes()
        database.write_bytes(b"no database" * 1000)
        for number in (2, 3):
            recorder.on_round_end(outcome(number))
            wait_for(tracker)
        database.write_bytes(content)
        summary = recorder.finish()
    assert summary["status"] == "finished"
    assert caplog.text.count("MLflow does not take") == 1
    client, run = stored(folder)
    history = client.get_metric_history(run.info.run_id, "evaluate/loss/server")
    assert [point.step for point in history] == [1, 2, 3] and run.info.status == "FINISHED"


def test_names_that_mlflow_does_not_like_cost_no_figure(folder, caplog):
    odd = {"recall@0.5": 0.25, "f1 (macro)": 0.5, "a//b/../c": 0.75, "x" * 300: 1.0}
    record(folder, [outcome(1, **odd), outcome(2)], CONFIG)
    client, run = stored(folder)
    metrics = run.data.metrics
    assert metrics["evaluate/recall_0.5/all"] == 0.25 and metrics["evaluate/f1 _macro_/client-1"] == 0.5
    assert metrics["train/a/b/c/all"] == 0.75
    assert sum(len(name) == 250 and "xxx/client-" in name for name in metrics) == 4  # two phases, two clients
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "train/loss/all")]
    assert steps == [1, 2] and "MLflow" not in caplog.text


def test_what_is_refused_for_good_is_left_out_with_one_warning(folder, caplog, monkeypatch):
    monkeypatch.setattr(ours, "_as_named", lambda name: name)  # as if MLflow had become stricter
    record(folder, [outcome(number, **{"recall@0.5": 0.25}) for number in (1, 2)], CONFIG)
    client, run = stored(folder)
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "evaluate/loss/server")]
    assert steps == [1, 2] and run.info.status == "FINISHED" and run.data.metrics["best/accuracy"] == 0.9
    assert not any("recall" in name for name in run.data.metrics)
    [warning] = [message for message in caplog.messages if "MLflow" in message]
    assert "recall@0.5" in warning


def wait_for(tracker):
    """Until the tracker's thread has done what it was given."""
    import threading

    done = threading.Event()
    tracker._work.put(done.set)
    assert done.wait(30)


def test_a_store_that_cannot_be_reached_is_refused_before_training(folder, monkeypatch):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(UserError, match=r"--mlflow: http://127.0.0.1:\d+ takes no run"):
            Recorder(folder, CONFIG)


@pytest.mark.parametrize(("flag", "module"), [("mlflow", "mlflow"), ("tensorboard", "tensorboardX")])
def test_without_its_package_a_tracker_is_refused_at_once(monkeypatch, flag, module):
    check_extras(Config(**{flag: True}))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"^--{flag} needs the extra: pip install 'fedkeras\[{flag}\]'$"):
        check_extras(Config(**{flag: True}))
    check_extras(Config())
