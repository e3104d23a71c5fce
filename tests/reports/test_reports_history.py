"""history.csv: what is written is read back, whatever happens to the writer."""

import csv
import math
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from fedkeras.errors import UserError
from fedkeras.reports import History, read_history, read_rows

HEADER = "round,phase,client,num_examples,loss,accuracy,seconds"


def row(number, client="0", phase="train", **more):
    return {"round": number, "phase": phase, "client": client, "num_examples": 10, "loss": 0.5} | more


def test_rows_come_back_with_all_digits_and_client_as_text(tmp_path):
    path = tmp_path / "history.csv"
    history = History(path)
    assert path.read_text() == HEADER + "\n"
    history.append([row(1, client=7, loss=np.float32(0.1), accuracy=1 / 3, seconds=None)])
    history.append([row(1, client="all", loss=float("inf"), accuracy=float("nan"), seconds=2)])
    table = read_history(path)
    assert list(table.columns) == HEADER.split(",")
    assert table["client"].tolist() == ["7", "all"] and table["round"].tolist() == [1, 1]
    assert table["loss"].tolist() == [float(np.float32(0.1)), math.inf]
    assert table["accuracy"][0] == 1 / 3 and math.isnan(table["accuracy"][1])
    assert math.isnan(table["seconds"][0]) and table["seconds"][1] == 2.0
    assert "seconds" not in read_rows(path)[0]


def test_each_append_is_in_the_file_when_it_returns(tmp_path):
    history = History(tmp_path / "history.csv")
    for number in range(1, 4):
        history.append([row(number)])
        assert [each["round"] for each in read_rows(history.path)] == list(range(1, number + 1))


def test_a_metric_seen_later_adds_a_column_in_order_of_appearance(tmp_path):
    path = tmp_path / "history.csv"
    history = History(path)
    history.append([row(1)])
    history.append([row(2, f1=0.5, auc=0.75)])
    history.append([row(3, auc=0.25), row(3, phase="evaluate", **{"top, 5": 0.9})])
    with path.open(newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == [*HEADER.split(","), "f1", "auc", "top, 5"]
    assert [line[7:] for line in lines[1:]] == [["", "", ""], ["0.5", "0.75", ""], ["", "0.25", ""], ["", "", "0.9"]]
    assert list(tmp_path.iterdir()) == [path], "the rewriting left something behind"


def test_a_text_of_a_client_stays_on_its_line(tmp_path):
    history = History(tmp_path / "history.csv")
    history.append([row(1, note='two\nlines, and "quotes"'), row(2)])
    assert [each.get("note") for each in read_rows(history.path)] == ['two lines, and "quotes"', None]


def test_a_line_torn_at_any_byte_is_dropped_and_cut_off_by_the_next_writer(tmp_path):
    path = tmp_path / "history.csv"
    History(path).append([row(1), row(2, accuracy=0.25)])
    whole = path.read_bytes()
    start = whole.rfind(b"\n", 0, -1) + 1
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        assert [each["round"] for each in read_rows(path)] == [1]
        History(path).append([row(3)])
        assert [each["round"] for each in read_rows(path)] == [1, 3]


def test_a_torn_header_is_begun_anew(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("round,pha")
    History(path).append([row(1)])
    assert [each["round"] for each in read_rows(path)] == [1]


def test_going_on_with_a_history_keeps_its_extra_columns(tmp_path):
    path = tmp_path / "history.csv"
    History(path).append([row(1, auc=0.5)])
    History(path).append([row(2, auc=0.75)])
    assert [each["auc"] for each in read_rows(path)] == [0.5, 0.75]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no"),
        ("", "is empty"),
        ("round,pha", "is empty"),
        ("round,phase,client,num_examples,accuracy,seconds\n", "lacks the column loss"),
        ("a;b\n1;2\n", "is no history"),
        (f"{HEADER}\n1,train,0,10,0.5,0.5,1\n2,train,0,10,0.52,train,1,10,0.5,0.5,1\n", "line 3 is damaged"),
        (f"{HEADER}\n1,train,0,10\n", "line 2 is damaged"),
        (f"{HEADER}\nx,train,0,10,0.5,0.5,1\n", "line 2 is damaged"),
        (f"{HEADER}\n1,,0,10,0.5,0.5,1\n", "line 2 is damaged"),
        (f"{HEADER}\n1,train,0,10,low,0.5,1\n", "line 2 is damaged"),
        (f'{HEADER}\n1,train,"0,10,0.5,0.5,1\n2,train,0,10,0.5,0.5,1\n', "line 2 is damaged"),
        (f"{HEADER}\n1,train,0,10,0.5,0.5,{'9' * 200_000}x\n", "line 2 is damaged"),
        (f"{HEADER}\n\n", "line 2 is damaged"),
        (b"\xff\xfe\x00\x01\n", "is no history"),
    ],
)
def test_what_is_no_history_is_one_clear_line(tmp_path, content, said):
    path = tmp_path / "history.csv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for read in (read_rows, read_history):
        with pytest.raises(UserError, match=said) as caught:
            read(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value) and len(str(caught.value)) < 400


def test_a_folder_in_place_of_the_history_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        History(tmp_path)


def test_a_spreadsheet_may_have_saved_it(tmp_path):
    path = tmp_path / "history.csv"
    path.write_bytes(b"\xef\xbb\xbf" + f"{HEADER}\r\n1,train,0,10,0.5,0.25,1\r\n".encode())
    assert read_rows(path)[0]["accuracy"] == 0.25 and read_rows(path)[0]["seconds"] == 1.0


FULL = """
    import resource, signal, sys
    from pathlib import Path
    from fedkeras.errors import UserError
    from fedkeras.reports import History
    history = History(Path(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
    if "die" in sys.argv:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the kernel ends the process in the middle of the write
    row = {"phase": "train", "client": "0", "num_examples": 10, "loss": 1 / 3, "accuracy": 2 / 3, "seconds": 1.0}
    for number in range(1, 100):
        late = "late" in sys.argv and history.path.stat().st_size > 1300
        extra = {f"late{i}": 1.0 for i in range(30)} if late else {}
        try:
            history.append([{"round": number} | row | extra] * 3)
        except UserError as error:
            sys.exit(f"{number} {error}")
        print(number, flush=True)
"""


@pytest.mark.parametrize("late", [[], ["late"]], ids=["append", "rewrite"])
def test_a_full_disk_is_one_line_and_earlier_rounds_stay(tmp_path, late):
    path = tmp_path / "history.csv"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL), path, *late], capture_output=True, text=True, timeout=20
    )
    number, _, message = done.stderr.strip().partition(" ")
    assert "cannot" in message and "File too large" in message and "\n" not in message
    assert int(number) > 3
    assert path.read_bytes().endswith(b"\n"), "the rows that did not fit were to be cut off"
    assert [each["round"] for each in read_rows(path)] == [n for n in range(1, int(number)) for _ in range(3)]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("late", [[], ["late"]], ids=["append", "rewrite"])
def test_a_process_that_dies_within_a_write_loses_no_round_that_was_acknowledged(tmp_path, late):
    path = tmp_path / "history.csv"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL), path, "die", *late], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == -signal.SIGXFSZ and done.stderr == ""
    acknowledged = int(done.stdout.split()[-1])
    assert path.read_bytes().endswith(b"\n") == bool(late), "an append was to be torn, a rewriting not to be seen"
    rounds = [each["round"] for each in read_rows(path)]
    assert rounds[: 3 * acknowledged] == [n for n in range(1, acknowledged + 1) for _ in range(3)]
    assert set(rounds[3 * acknowledged :]) <= {acknowledged + 1}


LOOP = """
    import sys
    from pathlib import Path
    from fedkeras.reports import History
    history = History(Path(sys.argv[1]))
    for number in range(1, 100_000):
        row = {"round": number, "phase": "train", "num_examples": 10, "loss": 1 / number, "accuracy": 1 - 1 / number}
        # every 40th round has a metric never seen before, so that the kill may hit a rewriting too
        extra = {f"metric{number}": 1.0} if number % 40 == 0 and number < 2000 else {}
        history.append([row | extra | {"client": str(cid)} for cid in range(50)])
        print(number, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 here")
def test_kill_9_at_any_moment_leaves_a_history_with_every_round_that_was_acknowledged(tmp_path):
    for attempt in range(10):
        path = tmp_path / f"history{attempt}.csv"
        child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(LOOP), path], stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "1\n"
        time.sleep(0.02 + 0.017 * attempt)
        os.kill(child.pid, signal.SIGKILL)
        acknowledged = int(["1", *child.stdout.read().split()][-1])  # communicate() skips what readline() has buffered
        child.stdout.close()
        child.wait(10)
        rows = read_rows(path)
        whole = len(rows) // 50
        assert acknowledged <= whole <= acknowledged + 1
        numbers = [n for n in range(1, whole + 2) for _ in range(50)][: len(rows)]
        assert [each["round"] for each in rows] == numbers
        assert all(each["loss"] == 1 / each["round"] for each in rows)
        History(path).append([row(whole + 2)])
        assert len(read_history(path)) == len(rows) + 1
