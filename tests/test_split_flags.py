"""Flags of split learning that do not go together are refused in one line, before anybody trains."""

import pytest

from fedkeras import server
from fedkeras.config import Config
from fedkeras.errors import RunFailed, UserError
from fedkeras.flower.settings import check_flags as check_app_flags
from fedkeras.runtime import spawn
from fedkeras.workflows import flag_checks
from fedkeras.workflows.base import workflow_of
from fedkeras.workflows.split.server_model import SplitServer

ON = {"split": "shared"}


def check_flags(config):
    flag_checks.check_flags(workflow_of(config), config)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"split_at": "1,2"}, "--split-at means nothing without --split"),
        ({"in_flight": 2}, "--in-flight means nothing without --split"),
        ({"split_noise": 0.1}, "--split-noise means nothing without --split"),
        ({**ON, "strategy": "fedprox"}, "--split shared takes no other strategy"),
        ({**ON, "strategy": "fedmedian"}, "leave out --strategy"),
        ({**ON, "strategy_args": "eta=1"}, "leave out --strategy-args"),
        ({"split": "sequential", "in_flight": 2}, "--in-flight is for --split splitfed or shared"),
        ({**ON, "model": "mlp"}, "two layers with weights"),
        ({**ON, "split_at": "1"}, "--split-at is '1'"),
        ({**ON, "model": "own:make"}, "has no default cut; give --split-at"),
    ],
)
def test_refused(fields, said):
    with pytest.raises(UserError) as error:
        check_flags(Config(**fields))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_allowed():
    for fields in ({}, {**ON, "in_flight": 3}, {"split": "sequential"}, {**ON, "model": "own:make", "split_at": "1,2"}):
        check_flags(Config(**fields))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"split_at": "9,2"}, "there is no layer 9"),
        ({"optimizer_args": "global_clipnorm=1"}, "take clipnorm"),
    ],
)
def test_what_only_the_model_shows_is_refused_before_a_run_folder_is_made(fields, said, tmp_path, monkeypatch):
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda n: None, raising=False)
    with pytest.raises(UserError, match=said):
        server.train(None, Config(**ON, **fields), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_weights_of_another_model_end_the_run_in_one_line(monkeypatch):
    monkeypatch.setattr("fedkeras.learning.limit_threads", lambda n: None, raising=False)
    middle = SplitServer(Config(**ON), 1)
    own = middle.weights()
    with pytest.raises(RunFailed, match="the clients train another model than is configured here: '"):
        middle.start(own)


def test_another_app_has_no_split():
    with pytest.raises(UserError, match="--split means nothing to another app"):
        check_app_flags(Config(app="folder", **ON))


@pytest.mark.parametrize(("split", "cids"), [("off", ["0-4", "0-4"]), ("shared", ["0,2,4", "1,3"])])
def test_in_split_learning_spawned_processes_share_no_partition(split, cids):
    """A client is half-way between two messages: its next one must meet the process that has its tapes."""
    config = Config(num_partitions=5, spawn=2, split=split)
    started = spawn.partition_flags(config, not workflow_of(config).keeps_client_state(config))
    assert [flags[flags.index("--cid") + 1] for flags in started] == cids
    assert ["--shared" in flags for flags in started] == [split == "off"] * 2
