"""The recorder: table, bar, summary, TensorBoard files, and what is left when a run breaks."""

import json
import logging
import os
import struct
import subprocess
import sys
from types import SimpleNamespace

import pytest

from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.reports import Recorder, create_run_folder, read_rows, start_log, stop_log, summarise

CENTRAL = [(2.0, 0.1), (1.0, 0.5), (0.5, 0.9), (0.6, 0.8)]  # loss, accuracy of rounds 0 to 3


def outcome(number, central=True, evaluate=True, train=True, failures=(), num_rounds=3, **more):
    """Two clients, of 10 and 30 examples, with accuracies 0.2 and 0.6: the mean is 0.5."""
    rows = []
    for phase, wanted in (("train", train), ("evaluate", evaluate)):
        if wanted and number:
            base = {"round": number, "phase": phase}
            clients = [
                base | {"client": "0", "num_examples": 10, "loss": 4.0, "accuracy": 0.2, "seconds": 1.5} | more,
                base | {"client": "1", "num_examples": 30, "loss": 2.0, "accuracy": 0.6, "seconds": 0.5} | more,
            ]
            mean = {"num_examples": 40, "loss": 2.5, "accuracy": 0.5, "seconds": 1.5}
            rows += [*clients, base | {"client": "all"} | mean | more]
    if central:
        loss, accuracy = CENTRAL[number]
        rows.append(
            {"round": number, "phase": "evaluate", "client": "server", "num_examples": 360, "loss": loss}
            | {"accuracy": accuracy, "seconds": 0.1}
        )
    answered = 3 - len(failures) if number else 0
    return SimpleNamespace(
        round=number, num_rounds=num_rounds, rows=rows, failures=dict(failures), seconds=1.25,
        timing={"waiting": 0.25, "training": 0.5},
        asked=3 if number else 0, answered=answered,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    return create_run_folder(tmp_path, "digits-fedavg", Config())


def record(folder, outcomes, config=None, **more):
    with Recorder(folder, config or Config(num_server_rounds=3), live=False) as recorder:
        for each in outcomes:
            recorder.on_round_end(each)
        return recorder.finish(**more)


def test_plain_table_has_one_aligned_row_a_round_and_the_folder_last(folder, capsys):
    record(folder, [outcome(n, failures={2: "out of\nmemory"} if n == 2 else {}) for n in range(4)])
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[:6] == [
        "round   loss (central)   accuracy (central)   seconds    clients",
        "    0           2.0000               0.1000      1.25          -",
        "    1           1.0000               0.5000      1.25        3/3",
        "    2           0.5000               0.9000      1.25        2/3",
        "round 2: client 2 failed: out of memory",
        "    3           0.6000               0.8000      1.25        3/3",
    ]
    assert "accuracy (central): 0.8000 at the end, best 0.9000 in round 2" in lines
    assert lines[lines.index("loss (clients)") + 1].split() == ["1:", "2.5000", "2:", "2.5000", "3:", "2.5000"]
    assert lines[-2].startswith("finished in 0.") and lines[-2].endswith(" s")
    assert lines[-1] == str(folder.path)
    assert lines[-3] == f"history: {folder.history_path}"
    assert out.replace("\n", "").isprintable() and all(len(line) <= 80 for line in lines[:-3])


@pytest.mark.parametrize(
    ("has", "header", "figures"),
    [
        ({"central": False}, "loss (clients)  accuracy (clients)", "2.5000 0.5000"),
        ({"central": False, "evaluate": False}, "loss (training) accuracy (training)", "2.5000 0.5000"),
    ],
)
def test_without_central_evaluation_the_header_says_what_is_shown(folder, capsys, has, header, figures):
    summary = record(folder, [outcome(0, central=False), outcome(1, **has)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["round", *header.split(), "seconds", "clients"]
    assert lines[1].split() == ["1", *figures.split(), "1.25", "3/3"]
    assert len(lines[0]) == len(lines[1]) <= 80
    assert summary["source"] == header.split("(")[1].split(")")[0] and summary["accuracy"] == 0.5


def test_a_model_without_accuracy_shows_its_own_metric(folder, capsys):
    each = outcome(1, central=False, mean_absolute_percentage_error=12345.678)
    each.rows = [{k: v for k, v in row.items() if k != "accuracy"} for row in each.rows]
    summary = record(folder, [each])
    lines = capsys.readouterr().out.splitlines()
    assert "mean_absolute_percen (clients)" in lines[0] and lines[1].split()[2] == "1.235e+04"
    assert len(lines[0]) == len(lines[1]) <= 80
    assert summary["accuracy"] is None and summary["best_round"] == 1


def test_many_failures_are_counted_not_listed(folder, capsys):
    record(folder, [outcome(1, failures=dict.fromkeys(range(30), "late"))])
    lines = [line for line in capsys.readouterr().out.splitlines() if "failed" in line]
    assert len(lines) == 11 and lines[-1] == "round 1: 20 more clients failed; see run.log"


def test_a_round_that_nobody_answered_has_a_row_of_dashes(folder, capsys):
    empty = outcome(1, central=False, train=False, evaluate=False, failures={0: "a", 1: "b", 2: "c"})
    record(folder, [empty])
    assert capsys.readouterr().out.splitlines()[1].split() == ["1", "-", "-", "1.25", "0/3"]


def test_a_long_run_ends_with_evenly_spaced_rounds_and_the_last(folder, capsys):
    rows = [outcome(1, evaluate=False, train=False) for _ in range(102)]
    for number, each in enumerate(rows, start=1):
        each.round = each.rows[0]["round"] = number
    record(folder, rows)
    text = capsys.readouterr().out.split("accuracy (central)\n")[1]
    assert [part for part in text.split() if part.endswith(":")][:3] == ["1:", "7:", "13:"]
    assert "   102: 0.5000" in text


def test_summary_holds_final_and_best_figures(folder):
    summary = record(folder, [outcome(n) for n in range(4)], num_weights=7)
    assert json.loads(folder.summary_path.read_text()) == summary
    expected = {
        "status": "finished", "dataset": "digits", "strategy": "fedavg", "rounds": 3, "source": "central",
        "accuracy": 0.8, "loss": 0.6, "best_accuracy": 0.9, "best_round": 2, "clients": 3, "seed": 42, "num_weights": 7,
    }  # fmt: skip
    assert {key: summary[key] for key in expected} == expected
    assert list(summary["versions"]) == ["python", "fedkeras", "flwr", "tensorflow", "keras", "numpy"]
    assert summary["versions"]["python"] == sys.version.split()[0] and summary["versions"]["numpy"].count(".") == 2
    assert folder.curves_path.read_bytes().startswith(b"\x89PNG")


def test_summary_of_a_diverged_run_has_no_nan_and_keeps_the_best_round(folder):
    rows = [
        {"round": 1, "phase": "evaluate", "client": "server", "num_examples": 1, "loss": 1.0, "accuracy": 0.5},
        {"round": 2, "phase": "evaluate", "client": "server", "num_examples": 1, "loss": float("nan"), "accuracy": 0.1},
    ]
    summary = summarise(Config(), rows, 12.3456, "finished")
    assert (summary["loss"], summary["accuracy"], summary["best_round"], summary["seconds"]) == (None, 0.1, 1, 12.346)
    assert summarise(Config(), [], 1.0, "failed")["accuracy"] is None
    with pytest.raises(ValueError, match="status"):
        summarise(Config(), [], 1.0, "done")


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), "interrupted"), (UserError("no"), "failed")])
def test_a_run_left_by_an_exception_keeps_its_rounds_and_says_so(folder, error, status, capsys):
    with pytest.raises(type(error)), Recorder(folder, Config(), live=False) as recorder:
        recorder.on_round_end(outcome(1))
        raise error
    assert json.loads(folder.summary_path.read_text())["status"] == status
    assert len(read_rows(folder.history_path)) == 7
    assert capsys.readouterr().out.splitlines()[-1] == str(folder.path)


def test_the_first_error_is_shown_when_the_disk_is_full_as_well(folder, caplog):
    (folder.path / ".summary.json.tmp").mkdir()
    with pytest.raises(UserError, match="too few answers"), Recorder(folder, Config(), live=False):
        raise UserError("too few answers")
    assert "cannot write" in caplog.text


def test_tensorboard_files_hold_every_number(folder):
    from tensorboardX.proto import event_pb2

    record(folder, [outcome(0), outcome(1)], Config(tensorboard=True))
    found = {}
    for path in folder.tensorboard_path.iterdir():
        data = path.read_bytes()
        while data:  # a record is a length, its checksum, an event, its checksum
            length = struct.unpack("<Q", data[:8])[0]
            event = event_pb2.Event.FromString(data[12 : 12 + length])
            found |= {(value.tag, event.step): value for value in event.summary.value}
            data = data[16 + length :]
    hparams = {tag: found.pop((tag, step)) for tag, step in list(found) if tag.startswith("_hparams_/")}
    check_hparams(hparams)
    found = {key: value.simple_value for key, value in found.items()}
    assert found["evaluate/accuracy/server", 0] == pytest.approx(0.1)
    assert found["evaluate/loss/server", 1] == 1.0
    assert found["train/loss/client-0", 1] == 4.0
    assert found["train/loss/all", 1] == 2.5
    assert found["evaluate/num_examples/client-1", 1] == 30
    final = {tag: value for (tag, step), value in found.items() if step == 1 and tag.startswith(("final/", "best/"))}
    assert final == pytest.approx({"final/accuracy": 0.5, "final/loss": 1.0, "best/accuracy": 0.5, "best/loss": 1.0})
    assert len(found) == 4 + 4 + 6 * 4 + 4


def check_hparams(values):
    """What TensorBoard's HPARAMS tab reads: the columns, this run's settings, and that it came to its end."""
    from tensorboardX.proto.api_pb2 import Status
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    read = {}
    for tag, value in values.items():
        assert value.metadata.plugin_data.plugin_name == "hparams"
        read[tag.split("/")[1]] = HParamsPluginData.FromString(value.metadata.plugin_data.content)
    columns = [info.name.tag for info in read["experiment"].experiment.metric_infos]
    assert columns == ["final/accuracy", "final/loss", "best/accuracy", "best/loss"]
    settings = read["session_start_info"].session_start_info.hparams
    assert settings["learning-rate"].number_value == 0.1 and settings["batch-size"].number_value == 16
    assert settings["strategy"].string_value == "fedavg" and settings["central-evaluation"].bool_value is True
    assert not {"port", "host", "data-dir"} & set(settings), "those of the server's machine are nobody's parameters"
    assert {info.name for info in read["experiment"].experiment.hparam_infos} == set(settings)
    assert read["session_end_info"].session_end_info.status == Status.Value("STATUS_SUCCESS")


def test_a_run_that_fails_has_no_end_in_tensorboard(folder):
    with pytest.raises(UserError), Recorder(folder, Config(tensorboard=True), live=False) as recorder:
        recorder.on_round_end(outcome(1))
        raise UserError("no")
    content = b"".join(path.read_bytes() for path in folder.tensorboard_path.iterdir())
    assert b"session_start_info" in content and b"session_end_info" not in content and b"final/accuracy" in content


def test_tensorboard_without_its_library_is_refused_before_training(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UserError, match=r"pip install 'fedkeras\[tensorboard\]'"):
        Recorder(folder, Config(tensorboard=True))
    Recorder(folder, Config())


LIVE = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_reports_recorder import *
folder = create_run_folder(Path(sys.argv[2]), "live", Config())
with Recorder(folder, Config(num_server_rounds=3)) as recorder:
    for number in range(4):
        recorder.on_round_end(outcome(number))
        print(f"said by somebody else {number}")
    recorder.finish()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no pty")
def test_on_a_terminal_the_rows_stand_above_a_bar(tmp_path):
    main, side = os.openpty()
    env = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    here = os.path.dirname(__file__)  # noqa: PTH120
    child = subprocess.Popen([sys.executable, "-c", LIVE, here, tmp_path], stdout=side, stderr=side, env=env)
    os.close(side)
    text = b""
    try:
        while part := os.read(main, 65536):
            text += part
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(main)
    assert child.wait(timeout=20) == 0
    text = text.decode()
    assert "\x1b[" in text and "3/3" in text and "\x1b[?25h" in text, "a bar, and the cursor given back"
    for number in range(4):
        assert text.count(f"said by somebody else {number}\r\n") == 1
    assert text.count("    2           0.5000               0.9000      1.25        3/3\r\n") == 1


def test_log_has_all_with_times_and_the_console_one_line_a_warning(tmp_path, capsys):
    import flwr.common.logger  # noqa: F401  # it attaches a console handler that prints every step

    fedkeras, flower = logging.getLogger("fedkeras.x"), logging.getLogger("flwr")
    before = list(flower.handlers)
    try:
        start_log(tmp_path / "old.log")
        start_log(tmp_path / "run.log")
        fedkeras.info("quiet")
        flower.info("configure_train")
        fedkeras.warning("two\n  lines")
        flower.error("bad")
        stop_log()
        fedkeras.warning("too late")
    finally:
        stop_log()
        flower.handlers[:] = before
    assert capsys.readouterr().err.splitlines()[:2] == ["warning: two lines", "error: bad"]
    lines = (tmp_path / "run.log").read_text().splitlines()
    said = [line.split(": ", 1)[1] for line in lines]
    assert said == ["quiet", "configure_train", "two lines", "bad"]
    assert lines[0][:2] == "20" and " INFO " in lines[0] and "fedkeras.x" in lines[0]
    assert (tmp_path / "old.log").read_text() == ""
    with pytest.raises(UserError, match="cannot write"):
        start_log(tmp_path)
