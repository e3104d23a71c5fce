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
from fedkeras.errors import UserError
from fedkeras.interactive import AFTER_THE_PASSPHRASE, BEFORE_THE_PASSPHRASE, command_of

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
    terminal.answer("address to listen on", "0.0.0.0")
    terminal.answer("port [0]", "many")
    terminal.wait("--port must be a whole number, not 'many'")
    terminal.answer("port [0]", "9999")
    terminal.answer("only collect models", "")
    terminal.answer("model file", "nowhere.h5")
    terminal.wait("there is no file nowhere.h5")
    terminal.answer("model file", "m.h5")
    terminal.answer("number of clients [3]", "2")
    terminal.answer("passphrase that clients must know: ", "")
    terminal.wait("without a passphrase anybody could join")
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
    numbers = {"--num-partitions", "2", "--local-epochs", "3", "--port", "9999", "--host", "0.0.0.0"}
    for word in set(command.split()) | numbers:
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


def test_interactive_is_in_the_help_and_a_mistyped_one_is_not_overlooked(tmp_path: Path) -> None:
    for args, status in ((["--help"], 0), (["--interactive", "--help"], 0), (["--interactiv"], 2)):
        command = [sys.executable, ROOT / "server.py", *args]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert ended.returncode == status
        assert "--interactive" in (ended.stderr if status else ended.stdout)


@pytest.mark.parametrize("mode", ["federated", "collect", "mine:Workflow"])
def test_the_question_of_the_mode_takes_these(mode: str) -> None:
    [question] = [one for one in AFTER_THE_PASSPHRASE if one.field == "mode"]
    question.check(mode)
    with pytest.raises(UserError, match="--mode is 'federatd'; allowed are: federated, collect, or a workflow"):
        question.check("federatd")


def test_questions_follow_from_the_answers_so_far() -> None:
    def questions(**fields: object) -> set[str]:
        config = Config(**fields)
        return {one.field for one in (*BEFORE_THE_PASSPHRASE, *AFTER_THE_PASSPHRASE) if one.when(config)}

    always = {"host", "port", "collect_only", "num_partitions"}
    trains = always | {"model", "data_source", "normaliser", "mode", "local_epochs", "batch_size", "optimizer", "seed"}
    trains |= {"target"}
    assert questions() == trains | {"num_server_rounds", "strategy"}
    assert questions(mode="collect", optimizer="adam") == trains | {"method", "learning_rate"}
    assert questions(mode="collect", method="kfold", data_source="server") == trains | {"method", "folds", "data_dir"}
    assert questions(data_source="keras", mode="collect") == trains | {"method", "dataset"}
    assert questions(collect_only=True, mode="collect", method="kfold", data_source="keras") == always
