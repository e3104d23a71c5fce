"""`make demo`'s command, whole: four processes, ten rounds, the accuracy the README promises."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fedkeras.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[1]


def test_demo_reaches_the_promised_accuracy(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fedkeras", "demo", "--run-dir", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    (folder,) = tmp_path.iterdir()
    lines = ended.stdout.splitlines()
    assert sum(line.startswith("$ python server.py --port ") for line in lines) == 1
    assert sum(line.startswith("$ python client.py --cid ") for line in lines) == 3
    assert sum(line.split()[-1:] == ["3/3"] for line in lines) == 10  # a table row a round
    assert lines[-1] == str(folder)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["accuracy"] >= 0.95
    assert summary["rounds"] == 10


@pytest.mark.parametrize(
    ("flags", "status", "said"),
    [
        (["--help"], 0, "usage: python -m fedkeras demo"),
        (["--learning-rate", "-1"], 2, "--learning-rate must be above 0.0"),
    ],
)
def test_a_server_that_never_listens_is_not_waited_for(flags: list[str], status: int, said: str) -> None:
    command = [sys.executable, "-m", "fedkeras", "demo", *flags]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == status and said in ended.stdout + ended.stderr
    assert "client" not in ended.stderr and ended.stderr.count("\n") == bool(status)
    assert ("$ python client.py" in ended.stdout) == bool(status)


def test_an_unknown_command_is_one_line() -> None:
    command = [sys.executable, "-m", "fedkeras", "dmeo"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        f"python -m fedkeras dmeo: there is no such command; there are: {', '.join(COMMANDS)}"
    ]
