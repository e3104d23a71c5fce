"""`python server.py --interactive` on a pseudo-terminal as a person uses it, and where there is none."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "runtime"))

from pseudo_terminal import Terminal  # noqa: E402

from fedkeras import interactive  # noqa: E402
from fedkeras.errors import UserError  # noqa: E402

LEFT, UP = "\x1b[D", "\x1b[A"


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*flags: object) -> Terminal:
        own = {"FEDKERAS_CACHE": str(tmp_path / "cache")}
        opened.append(Terminal(tmp_path, ROOT / "server.py", "--interactive", *flags, size=(24, 80), environment=own))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_lines_are_edited_answers_come_back_and_ctrl_d_is_one_line(
    terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    """Two sessions: 9<left>8 is 89, and the next one brings it back by the arrow upwards."""
    for typed in (f"9{LEFT}8", UP):
        session = terminal()
        session.answer("address [1]: ", "")
        session.answer("port (0: any free one) [9080]: ", typed)
        session.wait("89")
        if os.geteuid():  # below 1024, where others than root may not listen
            session.wait("this user may not use port 89; choose a --port above 1023")
            session.answer("port (0: any free one) [9080]: ", "0")
        session.answer("train or collect [1]: ", "\x04")
        session.wait("server.py: Ctrl-D: nothing was started")
        assert session.process.wait(30) == 130
        assert "Traceback" not in session.text and "^[" not in session.text
    assert json.loads((tmp_path / "cache" / "answers.json").read_text())["port"][0] == "89"


def test_ctrl_c_leaves_nothing_behind(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    session = terminal("--port", 0)
    session.answer("address [1]: ", "")
    session.wait("[0]: ")
    deadline = time.monotonic() + 30
    while session.process.poll() is None and time.monotonic() < deadline:
        os.killpg(session.process.pid, signal.SIGINT)  # one that comes just before `read` begins does not end it
        with contextlib.suppress(subprocess.TimeoutExpired):  # and one that comes while it ends would kill it
            session.process.wait(1)
    assert session.process.poll() == 130
    session.read()
    assert session.text.endswith("\nserver.py: interrupted\n") and "Traceback" not in session.text
    assert list(tmp_path.iterdir()) == []


def test_without_a_terminal_it_says_so(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "server.py", "--interactive"]
    ended = subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1] == "server.py: --interactive needs somebody at a terminal who answers"


@pytest.mark.parametrize(
    ("flags", "line"),
    [(["--resume", "runs/x"], "with the run's own settings"), (["--app", "x:y"], "another app's settings")],
)
def test_where_there_is_nothing_to_ask(flags: list[str], line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["server.py", "--interactive", *flags])
    with pytest.raises(UserError, match=line):
        interactive.from_flags()


def test_interactive_is_in_the_help_and_a_mistyped_one_is_not_overlooked(tmp_path: Path) -> None:
    for args, status in ((["--help"], 0), (["--interactive", "--help"], 0), (["--interactiv"], 2)):
        command = [sys.executable, ROOT / "server.py", *args]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert ended.returncode == status
        assert "--interactive" in (ended.stderr if status else ended.stdout)
