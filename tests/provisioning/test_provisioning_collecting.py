"""What is collected: every model counts with its own figures, and one bad answer costs one client, not the others."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict

from fedkeras import atomic, models, server
from fedkeras.config import Config
from fedkeras.data.normalise import normaliser_from
from fedkeras.errors import RunFailed, UserError
from fedkeras.federation.dispatcher import ClientRefused
from fedkeras.federation.requests import ClientRequest
from fedkeras.flower.identity import SERVER_NODE_ID, act_as, node_id_of
from fedkeras.models import file_child
from fedkeras.provisioning import central_evaluation
from fedkeras.provisioning.agreement import description_in
from fedkeras.provisioning.preprocessing import Preprocessing
from fedkeras.provisioning.protocol import reply
from fedkeras.reports import Recorder, create_run_folder
from fedkeras.reports.history import read_rows
from fedkeras.reports.progress_table import ProgressTable
from fedkeras.runtime.in_process import InProcessGrid
from fedkeras.workflows.collect import client, outbox
from fedkeras.workflows.collect import server as collect_server
from fedkeras.workflows.collect.protocol import CollectedModels, take_all
from fedkeras.workflows.run_setup import bare_run


def model_of(weight, features=1):
    model = keras.Sequential([keras.Input((features,)), keras.layers.Dense(1, use_bias=False)])
    model.compile("sgd", "mse")
    model.set_weights([np.full((features, 1), weight, "float32")])
    return model


class Machines(InProcessGrid):
    """Machines with a cache each, which answer as client.py does; they come one after the other if `in_turn`."""

    def __init__(self, folder, count, in_turn=False):
        super().__init__(self.answer, count, {}, {"deliver": True})
        self.folder, self.come = folder, 1 if in_turn else count

    def cids(self):
        there = list(super().cids().items())[: self.come]
        self.come += 1
        return dict(there)

    def cache(self, cid):
        os.environ["FEDKERAS_CACHE"] = str(self.folder / f"machine-{cid}")
        return self.folder / f"machine-{cid}" / "results"

    def answer(self, message, context):
        cid = int(context.node_config["partition-id"])
        self.cache(cid)
        return client.HANDLERS[message.metadata.message_type](ClientRequest(context, message))

    def has_trained(self, machine, run, cid, count, loss, weight):
        """A result as `fit` leaves it, kept by this machine."""
        self.cache(machine)

        def make(folder):
            models.save(model_of(weight), folder / "model.keras")
            return {"num-examples": count, "loss": loss, "seconds": 1.0}

        kept = outbox.keep(run, cid, make)
        stamp = len(list(self.cache(machine).iterdir()))  # one after the other, however fast they were made
        os.utime(outbox.results() / kept.key / "result.json", (stamp, stamp))
        return outbox.results() / kept.key


@pytest.fixture
def collecting(tmp_path, monkeypatch):
    """Makes machines, and a function that collects from them and returns the run's folder."""
    monkeypatch.setenv("FEDKERAS_CACHE", str(tmp_path / "cache"))  # the machines change it; this puts it back
    # ten seconds each with TensorFlow, which benchmarks.attacks and a slow test take
    light = file_child.check_in_child
    monkeypatch.setattr(central_evaluation, "check_in_child", lambda path, build=False: light(path))
    act_as(SERVER_NODE_ID, 1)

    def make(count, **options):
        machines = Machines(tmp_path, count, **options)
        config = Config(collect_only=True, num_partitions=count, node_timeout=5.0)
        folder = create_run_folder(tmp_path / "runs", "collected", config)

        def collect():
            with Recorder(folder, config, live=False) as recorder:
                run = dataclasses.replace(
                    bare_run(machines, config, None, callbacks=[recorder]), folder=folder, finish=recorder.finish
                )
                collect_server.CollectOnlyWorkflow().run(run)

        return machines, folder, collect

    return make


def weight_in(path):
    return float(models.load(path).get_weights()[0][0, 0])


def lines(folder):
    return [(row["client"], row["num_examples"], row["loss"]) for row in read_rows(folder.history_path)]


def test_models_that_were_trained_under_one_number_all_count_with_their_own_figures(collecting, capsys):
    machines, folder, collect = collecting(2, in_turn=True)
    machines.has_trained(0, "one run", 0, 30, 0.5, weight=1.0)
    machines.has_trained(0, "another", 0, 10, 0.25, weight=2.0)
    machines.has_trained(1, "on another machine", 0, 60, 0.125, weight=4.0)
    collect()
    assert {path.name: weight_in(path / "model.keras") for path in (folder.path / "clients").iterdir()} == {
        "0": 1.0, "0-2": 2.0, "0-3": 4.0,
    }  # fmt: skip
    mean = (30 * 0.5 + 10 * 0.25 + 60 * 0.125) / 100
    assert lines(folder) == [("0", 30, 0.5), ("0-2", 10, 0.25), ("0-3", 60, 0.125), ("all", 100, mean)]
    assert weight_in(folder.model_path) == pytest.approx((30 * 1 + 10 * 2 + 60 * 4) / 100)
    out = capsys.readouterr().out
    assert "client 0-2" in out and " 2/2\n" in out and "aggregate: fedavg of 3 models" in out


def test_who_could_not_deliver_fails_the_run_though_others_came_later(collecting):
    machines, folder, collect = collecting(2, in_turn=True)
    spoiled = machines.has_trained(0, "run", 0, 30, 0.5, weight=1.0)
    (spoiled / "model.keras").write_bytes(bytes((spoiled / "model.keras").stat().st_size))
    machines.has_trained(1, "run", 1, 10, 0.25, weight=2.0)
    with pytest.raises(RunFailed, match=r"1 models are in .*client 0 is missing \(its result did not arrive as it was"):
        collect()
    assert lines(folder)[0] == ("1", 10, 0.25)
    assert json.loads(folder.summary_path.read_text())["status"] == "failed"


def test_what_a_client_delivered_before_it_failed_is_used(collecting):
    machines, folder, collect = collecting(1)
    machines.has_trained(0, "first", 0, 30, 0.5, weight=1.0)
    machines.has_trained(0, "second", 0, 10, 0.25, weight=2.0)
    spoiled = machines.has_trained(0, "third", 0, 10, 0.25, weight=9.0)
    (spoiled / "model.keras").write_bytes(bytes((spoiled / "model.keras").stat().st_size))
    with pytest.raises(RunFailed, match="2 models are in"):
        collect()
    assert [client for client, *_ in lines(folder)] == ["0", "0-2", "all"]
    assert weight_in(folder.model_path) == pytest.approx((30 * 1 + 10 * 2) / 40)
    assert [path.name for path in machines.cache(0).iterdir()] == [spoiled.name]


@pytest.mark.parametrize("flags", [{"mode": "collect", "data_source": "keras", "model": "m.keras"},
                                   {"collect_only": True}])  # fmt: skip
def test_a_run_that_collects_is_not_resumed_and_nothing_of_it_is_deleted(tmp_path, flags):
    folder = create_run_folder(tmp_path, "collected", Config(**flags))
    folder.write_summary({"status": "finished", "rounds": 1})
    folder.history_path.write_text("round,phase,client,num_examples,loss,accuracy,seconds\n1,train,0,3,1.0,,1\n")
    before = {path: path.read_bytes() for path in folder.path.iterdir()}
    with pytest.raises(UserError, match=r"--resume is for rounds, .* --collect-only") as error:
        server.train(None, Config(resume=str(folder.path), **flags), tmp_path)
    assert not isinstance(error.value, RunFailed) and "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in folder.path.iterdir()} == before


GOOD = {"key": "a" * 32, "run": "r", "cid": 0, "files": {"model.keras": 1}, "digest": "b" * 64}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([{**GOOD, "figures": {"num-examples": 3, "loss": 10**400}}]),
        json.dumps([{**GOOD, "figures": {"num-examples": 0.5}}]),
        json.dumps([{**GOOD, "figures": {"num-examples": 0}}]),
        "[" * 100_000,
        "5",
    ],
    ids=["a loss beyond floats", "half an example", "no example", "deep", "no list"],
)
def test_a_result_that_makes_no_sense_is_refused(tmp_path, text):
    script = take_all(0, lambda key: True, CollectedModels(tmp_path), print)
    next(script)
    with pytest.raises(ClientRefused, match=r"describes its result wrongly|sent no list of results|says it has"):
        script.send(reply(results=text))


@pytest.mark.parametrize(
    ("arrays", "classes"),
    [
        ({"x": np.zeros(3)}, ""),
        ({"count": np.array(3)}, ""),
        ({"count": np.array([3]), "mean": np.zeros(0)}, ""),
        ({}, "[" * 100_000),
    ],
    ids=["no count", "one number", "other lengths", "deep"],
)
def test_a_description_that_makes_no_sense_is_refused(arrays, classes):
    with pytest.raises(ClientRefused, match="describes its data wrongly"):
        description_in(
            reply(
                arrays,
                classes=classes,
                rows=3,
                normaliser="none",
                counts=[],
                columns="{}",
                shape=[],
                one_hot=False,
                held_out=0,
            )
        )


@pytest.mark.parametrize("state", ["%", "x %", "² %", "25 %", "[/bold] 3 %"])
def test_a_state_is_shown_whatever_it_says(state, capsys):
    from rich.console import Console

    progress = ProgressTable(live=False)
    progress.say(0, state)
    assert capsys.readouterr().out == f"client 0: {state}\n" or state == "[/bold] 3 %"
    Console().print(progress._render())
    assert state in capsys.readouterr().out


def test_a_model_that_cannot_be_tested_is_left_out_and_the_others_are_tested(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda count: None)  # this process has begun with others
    models.save(model_of(1.0), tmp_path / "model.keras")
    config = Config(data_source="server", target="XX", model=str(tmp_path / "model.keras"))
    testing = central_evaluation.TableEvaluation(config, {"x": np.ones((4, 1))}, None)
    folders = {name: tmp_path / name for name in ("broken", "wide", "bare", "whole")}
    for name, folder in folders.items():
        folder.mkdir()
        models.save(model_of(3.0, features=2 if name == "wide" else 1), folder / "model.keras")
        if name != "bare":
            Preprocessing(normaliser_from(None, "none"), None).save(folder)
    (folders["broken"] / "model.keras").write_bytes(b"no zip file")
    assert central_evaluation.measure_models(testing, folders) == {"whole": {"num-examples": 4, "loss": 4.0}}
    assert [name for name in folders if f"{folders[name]} is not tested: " in caplog.text] == ["broken", "wide", "bare"]


def test_files_that_keras_stumbles_over_make_no_aggregate_and_no_end(tmp_path, monkeypatch, caplog):
    def stumble(path, trust_code):
        raise RuntimeError("odd\nfile")

    monkeypatch.setattr(models, "load", stumble, raising=False)
    monkeypatch.setattr(central_evaluation, "check_in_child", lambda path, build=False: None)
    assert collect_server.aggregate(Config(), {tmp_path / "model.keras": 3}, tmp_path / "out.keras") is None
    assert "there is no aggregate of the collected models: RuntimeError: odd file" in caplog.text


def test_what_a_killed_process_left_is_neither_delivered_nor_kept_for_ever(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDKERAS_CACHE", str(tmp_path))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()

    def left(machine, pid, key, *names):
        place = tmp_path / "results" / f".part-{machine}-{pid}-0a1b2c-{key}"
        place.mkdir(parents=True)
        for name in names:
            (place / name).write_text(json.dumps({**GOOD, "key": key, "figures": {"num-examples": 3}}))
        return place

    here = atomic.machine()
    half = left(here, dead.pid, "1" * 32, "model.keras")
    left(here, dead.pid, "2" * 32, "model.keras", "result.json")
    busy = left(here, os.getpid(), "3" * 32, "model.keras", "result.json")
    elsewhere = left("another-machine", dead.pid, "4" * 32, "model.keras")
    assert outbox.pending() == []
    new = outbox.keep("run", 0, lambda folder: (folder / "model.keras").write_text("x") and {"num-examples": 1})
    assert not half.exists() and busy.exists() and elsewhere.exists()
    assert sorted(result.key for result in outbox.pending()) == sorted(["2" * 32, new.key])  # it lacked its name only


def test_a_result_of_which_a_part_is_deleted_is_none_any_more(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDKERAS_CACHE", str(tmp_path))
    kept = outbox.keep("run", 0, lambda folder: (folder / "model.keras").write_text("x") and {"num-examples": 1})
    monkeypatch.setattr(outbox.shutil, "rmtree", lambda *_, **__: None)  # killed before it was through
    outbox.forget(kept)
    assert outbox.pending() == [] and not (Path(outbox.results()) / kept.key).exists()


@pytest.mark.parametrize(
    ("delivers", "knows_run", "gets"), [(False, False, ""), (True, False, "all"), (False, True, "own")]
)
def test_a_server_gets_what_was_trained_in_its_own_run_and_all_only_of_a_client_that_delivers(
    tmp_path, monkeypatch, delivers, knows_run, gets
):
    """The id of a run is known to the server that began it; another server would be given a stranger's models."""
    monkeypatch.setenv("FEDKERAS_CACHE", str(tmp_path))
    monkeypatch.setattr(client, "local_jobs", client.LocalJobs())
    kept = outbox.keep("its run", 0, lambda folder: (folder / "model.keras").write_text("x") and {"num-examples": 1})

    def asked(kind, **sent):
        act_as(SERVER_NODE_ID, 1)
        message = Message(RecordDict({"config": ConfigRecord(sent)}), node_id_of(0), f"query.{kind}")
        context = Context(1, node_id_of(0), {"partition-id": 0, "deliver": delivers}, RecordDict(), {})
        return client.HANDLERS[message.metadata.message_type](ClientRequest(context, message)).content

    if knows_run:
        assert kept.key in asked("progress", run="its run")["config"]["result"]
    with contextlib.nullcontext() if gets == "all" else pytest.raises(UserError, match="this client with --deliver"):
        assert kept.key in asked("pending")["config"]["results"]
    with contextlib.nullcontext() if gets else pytest.raises(UserError, match="does not hold that result for this run"):
        assert asked("deliver", key=kept.key, name="model.keras", first=0)["arrays"]
    with contextlib.nullcontext() if gets else pytest.raises(UserError, match="does not hold that result for this run"):
        asked("confirm", key=kept.key, digest=kept.digest)
    assert len(outbox.pending()) == (not gets)
