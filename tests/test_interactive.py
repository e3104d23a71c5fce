"""`python server.py --interactive`, on a pseudo-terminal as a person uses it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "runtime"))

import pytest
from pseudo_terminal import Terminal

from fedkeras.config import Config
from fedkeras.interactive import command_of

ROOT = Path(__file__).resolve().parents[1]
SECRET = "a long passphrase"


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(tmp_path, ROOT / "server.py", "--interactive", "--port", "0")
    yield opened
    opened.close()


def test_questions_are_asked_in_order_checked_and_turned_into_a_command(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "m.h5").write_bytes(b"x")
    for folder in ("d/X", "d/Y"):
        (tmp_path / folder).mkdir(parents=True)
    terminal.answer("address to listen on", "")
    terminal.answer("port [0]", "many")
    terminal.wait("--port must be a whole number, not 'many'")
    terminal.answer("port [0]", "9999")
    terminal.answer("only collect models", "")
    terminal.answer("model file", "nowhere.h5")
    terminal.wait("there is no file nowhere.h5")
    terminal.answer("model file", "m.h5")
    terminal.answer("number of clients [3]", "2")
    terminal.answer("passphrase that clients must know", SECRET)
    terminal.answer("the same again", "another")
    terminal.wait("not the same")
    terminal.answer("passphrase that clients must know", SECRET)
    terminal.answer("the same again", SECRET)
    terminal.answer("where the data are", "moon")
    terminal.wait("allowed are")
    terminal.answer("where the data are", "server")
    terminal.answer("folder with the data", "d")
    terminal.answer("normaliser", "zscore")
    terminal.answer("federated (rounds) or collect", "collect")
    terminal.answer("method", "kfold")
    terminal.answer("folds [5]", "")
    terminal.answer("epochs", "3")
    terminal.answer("batch size", "32")
    terminal.answer("optimizer", "adam")
    terminal.answer("learning rate", "0.001")
    terminal.answer("seed", "")
    terminal.answer("XY", "XX")
    terminal.wait("start [yes]")
    command = (
        "FEDKERAS_PASSPHRASE=... python server.py --data-dir d --data-source server --target XX --mode collect "
        "--method kfold --model m.h5 --normaliser zscore"
    )
    said = terminal.shown.split("the same without questions:")[1]
    for word in set(command.split()) | {"--num-partitions", "2", "--local-epochs", "3", "--port", "9999"}:
        assert word in said, word
    assert SECRET not in terminal.shown
    terminal.answer("", "no")
    assert terminal.process.wait(30) == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "m.h5"]


def test_ctrl_c_leaves_nothing_behind(terminal: Terminal, tmp_path: Path) -> None:
    terminal.answer("address to listen on", "")
    terminal.wait("port [0]")
    deadline = time.monotonic() + 30
    while terminal.process.poll() is None and time.monotonic() < deadline:
        os.killpg(terminal.process.pid, signal.SIGINT)  # one that comes just before `read` begins does not end it
        with contextlib.suppress(subprocess.TimeoutExpired):  # and one that comes while it ends would kill it
            terminal.process.wait(5)
    assert terminal.process.poll() == 130
    assert list(tmp_path.iterdir()) == []


def test_without_a_terminal_it_says_so(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "server.py", "--interactive"]
    ended = subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1] == "server.py: --interactive needs somebody at a terminal who answers"


def test_the_command_gives_the_same_configuration() -> None:
    config = Config(host="::1", num_partitions=7, central_evaluation=False, insecure=True, strategy_args="eta=0.1")
    words = command_of(config).split()[2:]
    assert Config.from_flags(words) == config
