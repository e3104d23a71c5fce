"""Checkpoints: what is written is read back, what is damaged is noticed, and the newest whole one is found."""

import dataclasses
import errno
import hashlib
import itertools
import json
import logging
import os
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from fedkeras.config import RULES, RULES_NUMBER, Config, fields_of
from fedkeras.errors import UserError
from fedkeras.reports import Checkpoint, Checkpoints, History, RunFolder, checkpoints, held, read_rows, resuming
from fedkeras.reports.checkpoints import Damaged, newest_checkpoint, path_of, rounds_of
from fedkeras.reports.summary import versions

WEIGHTS = {
    "dense/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "empty": np.zeros((0, 4), ">i8"),
    "n": np.array(7),
}


def row(number: int, accuracy: float | None = 0.5, client: str = "server", **more: object) -> dict:
    figures = {"num_examples": 1, "loss": 1.0 / number} | ({} if accuracy is None else {"accuracy": accuracy})
    return {"round": number, "phase": "evaluate", "client": client} | figures | more


def checkpoint(number: int, history_rows: int = 0, **more: object) -> Checkpoint:
    return Checkpoint(round=number, weights=WEIGHTS, history_rows=history_rows, **more)


def bits(arrays) -> dict[str, tuple]:
    return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path)
    folder.write_config(Config())
    History(folder.history_path)
    return folder


def save_all(folder: RunFolder, accuracies, keep: int = 2, rows=()) -> None:
    history = History(folder.history_path)
    with Checkpoints(folder, keep, rows) as checkpoints:
        for number, accuracy in accuracies:
            rows = [row(number, accuracy), row(number, client="0")]
            history.append(rows)
            checkpoints.save(checkpoint(number, history.num_rows), rows)


# One file


def test_all_of_it_comes_back(tmp_path: Path) -> None:
    state = {"0:m_t.é": np.asfortranarray(np.eye(3)), "flags": np.array([True, False])}
    table = {"attributes": {"a": ["dict", [[1, float("nan")]]], "text": "two\nlines \udcff"}, "not-saved": []}
    written = checkpoint(
        12, 345, strategy_arrays=state, strategy=table, failure_tracker={"train": {}}, seconds=1.5, config={"seed": 1},
        versions={"numpy": "2"},
    )  # fmt: skip
    checkpoints.write(tmp_path / "x", written)
    back = checkpoints.read(tmp_path / "x")
    assert bits(back.weights) == bits(WEIGHTS) and list(back.weights) == list(WEIGHTS)
    assert bits(back.strategy_arrays) == bits(state)
    assert all(array.flags.writeable for array in back.weights.values())
    for field in dataclasses.fields(Checkpoint):
        if field.name not in ("weights", "strategy_arrays"):
            assert repr(getattr(back, field.name)) == repr(getattr(written, field.name)), field.name


def test_the_digest_is_what_its_line_says(tmp_path: Path) -> None:
    checkpoints.write(tmp_path / "x", checkpoint(1))
    magic, digest, rest = (tmp_path / "x").read_bytes().split(b"\n", 2)
    assert magic == b"fedkeras checkpoint 1" and digest.decode() == hashlib.sha256(rest).hexdigest()


def test_a_file_keeps_its_names_from_version_to_version(tmp_path: Path) -> None:
    checkpoints.write(tmp_path / "x", checkpoint(1, strategy={"a": 1}, failure_tracker={"train": {}}))
    header = json.loads((tmp_path / "x").read_bytes().split(b"\n")[2])
    assert list(header) == [
        "round", "history-rows", "seconds", "versions", "config", "rests", "client-examples", "holders",
        "strategy", "trainable", "arrays",
    ]  # fmt: skip
    assert (header["rests"], header["strategy"]) == ({"train": {}}, {"a": 1})
    assert {entry["part"] for entry in header["arrays"]} == {"weights"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "whole"
    checkpoints.write(path, checkpoint(1))
    return path


def test_any_flipped_bit_is_noticed(whole: Path) -> None:
    content, other = whole.read_bytes(), whole.with_name("flipped")
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        other.write_bytes(flipped)
        with pytest.raises(Damaged):
            checkpoints.read(other)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some.data())
def test_any_change_is_noticed(whole: Path, data) -> None:
    """Another byte, an end cut off, something put in or added."""
    content, other = whole.read_bytes(), whole.with_name("other")
    start = data.draw(some.integers(0, len(content)))
    end = data.draw(some.integers(start, len(content)))
    changed = content[:start] + data.draw(some.binary(max_size=20)) + data.draw(some.sampled_from([content[end:], b""]))
    other.write_bytes(changed)
    if changed == content:
        assert checkpoints.read(other).round == 1
    else:
        with pytest.raises(Damaged):
            checkpoints.read(other)


# Those of a run


@pytest.mark.parametrize(
    ("accuracies", "keep", "expected"),
    [
        ([0.1, 0.9, 0.5, 0.6, 0.7], 2, [2, 4, 5]),  # the best is an old one
        ([0.1, 0.2, 0.3, 0.4, 0.5], 2, [4, 5]),
        ([0.1, 0.2, 0.3, 0.4, 0.4], 1, [4, 5]),  # of equals the first
        ([None] * 5, 1, [5]),  # without accuracy the lowest loss
        ([0.1, float("nan"), 0.05], 1, [1, 3]),
    ],
)
def test_the_newest_are_kept_and_the_best(folder: RunFolder, accuracies, keep, expected) -> None:
    save_all(folder, enumerate(accuracies, start=1), keep)
    assert rounds_of(folder) == expected
    assert sorted(path.name for path in folder.checkpoints_path.iterdir()) == [f"round-{n:05d}.ckpt" for n in expected]


def test_a_resumed_run_knows_the_best(folder: RunFolder) -> None:
    save_all(folder, enumerate([0.1, 0.9, 0.5, 0.6], start=1), 1)
    save_all(folder, [(5, 0.7), (6, 0.8)], 1, read_rows(folder.history_path))
    assert rounds_of(folder) == [2, 6]


def test_a_checkpoint_is_written_beside_the_rounds_and_the_next_waits_for_it(folder: RunFolder, monkeypatch) -> None:
    go, began, done = threading.Event(), threading.Event(), []

    def slow(path: Path, content: Checkpoint) -> None:
        began.set()
        go.wait(20)
        done.append(content.round)

    monkeypatch.setattr("fedkeras.reports.checkpoints.write", slow)
    checkpoints = Checkpoints(folder, 1)
    checkpoints.save(checkpoint(1), [])
    assert began.wait(20) and not done
    other = threading.Thread(target=checkpoints.save, args=(checkpoint(2), []))
    other.start()
    other.join(0.2)
    assert other.is_alive(), "two at once"
    go.set()
    other.join(20)
    checkpoints.wait()
    assert done == [1, 2]


@pytest.mark.parametrize("nth", [1, 2])
def test_a_full_disk_is_a_warning_and_leaves_the_old_one(folder: RunFolder, monkeypatch, caplog, nth: int) -> None:
    """It is noticed when the history is forced to the disk, or the checkpoint itself."""
    caplog.set_level(logging.WARNING)
    save_all(folder, [(1, 0.5)])
    calls = itertools.count(1)

    def full(_: int) -> None:
        if next(calls) == nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, Checkpoints(folder, 1) as checkpoints:
        patch.setattr(os, "fsync", full)
        checkpoints.save(checkpoint(2, 2), [row(2)])
        checkpoints.wait()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no checkpoint of round 2" in caplog.text and "No space left" in caplog.text and "goes on" in caplog.text
    assert [path.name for path in folder.checkpoints_path.iterdir()] == ["round-00001.ckpt"]
    assert newest_checkpoint(folder).round == 1
    save_all(folder, [(2, 0.5)])
    assert newest_checkpoint(folder).round == 2


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_damaged_one_falls_back_to_the_one_before_and_says_so(folder: RunFolder, caplog) -> None:
    caplog.set_level(logging.WARNING)
    save_all(folder, enumerate([0.9, 0.2, 0.3, 0.4], start=1), 3)
    flip(path_of(folder, 4))
    path_of(folder, 3).write_bytes(path_of(folder, 3).read_bytes()[:-1])
    assert newest_checkpoint(folder).round == 2
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    first, second = (record.getMessage() for record in caplog.records)
    assert first == f"{path_of(folder, 4)} is damaged: its digest does not fit its content; falling back to the " \
        "checkpoint of round 2"  # fmt: skip
    assert str(path_of(folder, 3)) in second
    # The next one takes the damaged ones away, and the best stays
    save_all(folder, [(3, 0.1)], 1, [row(1, 0.9), row(2, 0.2)])
    assert rounds_of(folder) == [1, 3]


def test_none_left_is_one_line(folder: RunFolder) -> None:
    save_all(folder, [(1, 0.5), (2, 0.5)])
    flip(path_of(folder, 1))
    flip(path_of(folder, 2))
    with pytest.raises(UserError, match=r"no checkpoint is left: .*round-00002.*start a new run"):
        newest_checkpoint(folder)


def test_a_checkpoint_whose_history_is_not_there_is_passed_over(folder: RunFolder, caplog) -> None:
    """After a power cut."""
    save_all(folder, [(1, 0.5), (2, 0.5)])
    text = folder.history_path.read_text().splitlines(keepends=True)
    folder.history_path.write_text("".join(text[:-1]))
    assert newest_checkpoint(folder).round == 1
    assert "wants 4 rows of history.csv, which has 3" in caplog.text


def test_there_is_none_yet(folder: RunFolder) -> None:
    assert newest_checkpoint(folder) is None
    folder.checkpoints_path.mkdir()
    (folder.checkpoints_path / ".round-00001.ckpt.tmp").write_bytes(b"half")
    assert newest_checkpoint(folder) is None


# Going back


def test_later_rows_are_cut_off_though_the_table_got_a_column(folder: RunFolder) -> None:
    history = History(folder.history_path)
    history.append([row(1), row(2)])
    before = read_rows(folder.history_path)
    history.append([row(3, f1=0.5), row(4)])
    with folder.history_path.open("a") as file:
        file.write("5,eval")
    folder.write_summary({"status": "interrupted"})
    resuming.go_back(folder, Config(seed=5, resume=str(folder.path)), checkpoint(2, 2))
    assert read_rows(folder.history_path) == before
    assert Config.load(folder.config_path) == Config(seed=5), "a run's settings do not say that it was resumed"
    assert not folder.summary_path.exists()
    history = History(folder.history_path)
    history.append([row(3, f1=0.5)])
    assert history.num_rows == 3 and read_rows(folder.history_path)[-1]["f1"] == 0.5


def test_settings_that_go_on_are_kept_unless_a_server_is_at_the_run(folder: RunFolder) -> None:
    config = Config(num_server_rounds=20)
    resumed = dataclasses.replace(config, resume=str(folder.path))
    with held(folder), pytest.raises(UserError, match="another server"):
        resuming.keep_settings(resumed)
    assert Config.load(folder.config_path) == Config()
    resuming.keep_settings(resumed)
    assert Config.load(folder.config_path) == config


def test_to_the_start(folder: RunFolder, caplog) -> None:
    History(folder.history_path).append([row(1)])
    assert resuming.find(folder, Config()) is None
    assert "begins again with round 1" in caplog.text
    resuming.go_back(folder, Config(), None)
    assert read_rows(folder.history_path) == []


def test_a_run_without_checkpoints_does_not_begin_again(folder: RunFolder) -> None:
    folder.write_config(Config(checkpoint_every=0))
    assert resuming.find(folder, Config()) is None
    History(folder.history_path).append([row(1)])
    with pytest.raises(UserError, match="--checkpoint-every 0"):
        resuming.find(folder, Config())


def test_fewer_rounds_than_done(folder: RunFolder) -> None:
    save_all(folder, [(1, 0.5), (2, 0.5)])
    with pytest.raises(UserError, match="--num-server-rounds is 1, but round 2 is done"):
        resuming.find(folder, Config(num_server_rounds=1))


def test_other_versions_are_a_warning(folder: RunFolder, caplog) -> None:
    with Checkpoints(folder, 1) as checkpoints:
        checkpoints.save(checkpoint(1, versions={"numpy": "1.0", "python": "2.7"}), [])
    resuming.find(folder, Config())
    assert "begun with python 2.7 (now 3" in caplog.text and "numpy 1.0 (now 2" in caplog.text


def test_one_server_at_a_time(folder: RunFolder) -> None:
    refused = pytest.raises(UserError, match="another server is writing to")
    with held(folder), refused, held(folder):
        raise AssertionError("two at once")
    with held(folder):
        assert folder.lock_path.exists()


# Settings


def resumed(folder: RunFolder, *flags: str) -> Config:
    return resuming.from_flags(["--resume", str(folder.path), *flags])


def test_the_settings_are_the_runs(folder: RunFolder) -> None:
    saved = Config(num_partitions=7, batch_size=3, spawn=2, tensorboard=True, central_evaluation=False, run_dir="r")
    folder.write_config(saved)
    expected = dataclasses.replace(saved, resume=str(folder.path))
    assert resumed(folder) == expected
    assert resuming.from_flags([f"--resume={folder.path}"]) == expected
    assert resumed(folder, "--batch-size", "3") == expected, "the same value is no change"
    assert resuming.from_flags(["--batch-size", "5"]) == Config(batch_size=5)


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        (["--port", "0"], "port", 0),
        (["--num-server-rounds", "10"], "num_server_rounds", 10),  # the default, and yet typed
        (["--min-available-nodes", "6"], "min_available_nodes", 6),  # more than the default's partitions
        (["--no-tensorboard"], "tensorboard", False),
        (["--spawn=0"], "spawn", 0),
        (["--data-dir", "/elsewhere"], "data_dir", "/elsewhere"),
    ],
)
def test_what_does_not_change_the_figures_may_be_changed(folder: RunFolder, flags, field, value) -> None:
    saved = Config(num_partitions=7, num_server_rounds=5, spawn=2, tensorboard=True)
    folder.write_config(saved)
    assert resumed(folder, *flags) == dataclasses.replace(saved, **{"resume": str(folder.path), field: value})


def test_every_other_flag_is_refused(folder: RunFolder) -> None:
    refused = {
        "batch-size": "3", "seed": "1", "strategy": "fedmedian", "num-partitions": "5", "dataset": "mnist",
        "learning-rate": "0.5", "threads-per-client": "2", "fraction-train": "0.5", "rest-after": "1", "run-dir": "x",
        "model": "x.keras", "name": "n", "app": "x", "local-epochs": "2",
    }  # fmt: skip
    for name, value in refused.items():
        with pytest.raises(UserError, match=f"--{name} cannot be changed") as caught:
            resumed(folder, f"--{name}", value)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="--central-evaluation cannot be changed"):
        resumed(folder, "--no-central-evaluation")
    assert {name.replace("_", "-") for name in fields_of()} >= {*refused}


def test_run_configuration(folder: RunFolder) -> None:
    saved = Config(num_partitions=7, batch_size=3)
    folder.write_config(saved)
    table = Config(resume=str(folder.path)).to_run_config()
    assert resuming.from_run_config(table) == dataclasses.replace(saved, resume=str(folder.path))
    longer = resuming.from_run_config(table | {"num-server-rounds": 20})
    assert (longer.num_server_rounds, longer.batch_size) == (20, 3)
    with pytest.raises(UserError, match="--batch-size cannot be changed"):
        resuming.from_run_config(table | {"batch-size": 4})
    with pytest.raises(UserError, match="resume is 'runs/x': under Flower's runtime give an absolute path"):
        resuming.from_run_config(table | {"resume": "runs/x"})


@pytest.mark.parametrize("text", [None, "", '{"seed": 1', "[]", "\xff", '{"seed": "x"}', '{"unknown": 1}'])
def test_a_missing_or_torn_config_is_one_line(folder: RunFolder, text: str | None) -> None:
    folder.config_path.unlink()
    if text is not None:
        folder.config_path.write_bytes(text.encode("latin1"))
    with pytest.raises(UserError) as caught:
        resumed(folder)
    assert "\n" not in str(caught.value)


def test_a_run_of_an_older_version_goes_on_with_the_defaults_of_what_is_new(folder: RunFolder) -> None:
    table = {**Config(batch_size=3).to_run_config(), RULES: RULES_NUMBER}
    del table["mods"]
    folder.config_path.write_text(json.dumps(table))
    assert resumed(folder) == Config(batch_size=3, resume=str(folder.path))


@pytest.mark.parametrize(
    ("setting", "value", "what"),
    [
        ("zap", 1, "it has the setting 'zap', which is not known here"),
        ("partitioner", "circles", "--partitioner is 'circles'; allowed are: iid,"),
    ],
)
def test_a_run_of_another_version_is_refused_in_a_line_that_says_which(folder, setting, value, what) -> None:
    folder.config_path.write_text(json.dumps({**Config().to_run_config(), RULES: RULES_NUMBER, setting: value}))
    now = versions()["fedkeras"]
    with pytest.raises(UserError) as caught:
        resumed(folder)
    text = str(caught.value)
    assert text.startswith(f"--resume: {folder.config_path} does not fit this fedkeras, {now}: {what}")
    assert text.endswith("; start a new run") and "\n" not in text and len(text) < 400
    with Checkpoints(folder, keep=1) as checkpoints:
        checkpoints.save(checkpoint(1, versions={"fedkeras": "0.0.7"}), [])
    with pytest.raises(UserError, match=f"was made by fedkeras 0.0.7, and this is {now}: {re.escape(what)}"):
        resumed(folder)
    folder.write_summary({"versions": {"fedkeras": "0.0.8"}})
    with pytest.raises(UserError, match=f"was made by fedkeras 0.0.8, and this is {now}: {re.escape(what)}"):
        resumed(folder)


def test_finished_is_said_and_for_more_rounds_it_goes_on(folder: RunFolder, capsys) -> None:
    config = Config(num_server_rounds=3, resume=str(folder.path))
    for status, rounds in itertools.product(("finished", "interrupted"), (2, 3)):
        folder.write_summary({"status": status, "rounds": rounds})
        assert resuming.already_finished(config) == ((status, rounds) == ("finished", 3))
    capsys.readouterr()
    folder.write_summary({"status": "finished", "rounds": 3})
    assert resuming.already_finished(config)
    out = capsys.readouterr().out.splitlines()
    assert "is finished" in out[0] and "--num-server-rounds" in out[0] and out[-1] == str(folder.path)
    assert not resuming.already_finished(Config())
    folder.summary_path.write_text("{")
    assert not resuming.already_finished(config)
