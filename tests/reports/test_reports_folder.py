"""The run folder: its own, complete from the start, and refused in one line."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.reports import create_run_folder


def test_the_folder_is_named_by_time_and_name_and_holds_the_config(tmp_path):
    config = Config(seed=7)
    folder = create_run_folder(tmp_path / "new" / "runs", "flwr.serverapp.strategy:FedYogi/../x", config)
    assert folder.path.parent == tmp_path / "new" / "runs"
    day, clock, name = folder.path.name.split("-", 2)
    assert len(day) == 8 and len(clock) == 6 and (day + clock).isdigit()
    assert name == "flwr.serverapp.strategy-FedYogi-..-x"
    assert Config.load(folder.path / "config.json") == config
    assert create_run_folder(tmp_path, "///", config).path.name.endswith("-run")


def test_servers_started_in_the_same_second_do_not_share_a_folder(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: create_run_folder(tmp_path, "digits", Config()).path, range(40)))
    assert len(set(folders)) == 40
    assert any(path.name.endswith("digits-2") for path in folders)


@pytest.mark.parametrize("parent", ["file", "file/below", "/proc/runs"])
def test_a_place_that_takes_no_folder_is_one_line(tmp_path, parent):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--run-dir") as caught:
        create_run_folder(tmp_path / parent, "x", Config())
    assert parent in str(caught.value) and "\n" not in str(caught.value)


def test_summary_is_json_that_any_reader_takes(tmp_path):
    folder = create_run_folder(tmp_path, "x", Config())
    folder.write_summary({"old": True})
    folder.write_summary({"loss": float("nan"), "deep": [{"x": float("inf")}, (1, -0.5)], "name": "né"})
    assert json.loads(folder.summary_path.read_text()) == {"loss": None, "deep": [{"x": None}, [1, -0.5]], "name": "né"}
    assert {path.name for path in folder.path.iterdir()} == {"config.json", "summary.json"}


def test_a_summary_that_cannot_be_written_leaves_the_old_one(tmp_path):
    folder = create_run_folder(tmp_path, "x", Config())
    folder.write_summary({"old": True})
    with pytest.raises(TypeError):
        folder.write_summary({"new": object()})
    blocker = folder.path / ".summary.json.tmp"
    blocker.mkdir()  # where the new one would be written
    with pytest.raises(UserError, match=r"cannot write .*summary\.json"):
        folder.write_summary({"new": True})
    assert json.loads(folder.summary_path.read_text()) == {"old": True}


def test_reports_start_without_anything_heavy():
    heavy = ["tensorflow", "keras", "grpc", "flwr", "pandas", "matplotlib", "rich", "tyro", "tensorboardX", "data"]
    code = f"import sys, fedkeras.reports; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
