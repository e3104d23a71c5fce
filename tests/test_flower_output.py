"""What `python -m fedkeras simulate` makes of Flower's output, and how it ends what it started.

No Flower runs here: small processes play its part.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedkeras.commands import simulate
from fedkeras.commands.process_tree import descendants, end_tree
from fedkeras.errors import RunFailed, UserError
from fedkeras.workflows.run_setup import without_tokens


def shown(text: str, runs: Path, status: int = 0) -> Path | None:
    """`_show` for a `flwr run` that prints `text`."""
    command = [sys.executable, "-c", f"import sys; sys.stdout.write({text!r}); sys.exit({status})"]
    return simulate._show(command, dict(os.environ), runs)


def test_greetings_are_held_back_and_the_rest_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    text = "\n".join(
        [
            "Using SuperLink: local (127.0.0.1:34621)",
            "Successfully started run 13326403282342844133",
            "\x1b[92mINFO \x1b[0m:      Starting Flower Simulation",
            "\x1b[36m(pid=25802)\x1b[0m I0000 00:00:1795311195.848396   25802 port.cc:153] oneDNN custom operations",
            "round   loss",
            "warning: client 2 failed",
            str(tmp_path / "20260101-digits"),
            "",
        ]
    )
    assert shown(text, tmp_path) == tmp_path / "20260101-digits"
    said = capsys.readouterr().out.splitlines()
    assert said == ["round   loss", "warning: client 2 failed", str(tmp_path / "20260101-digits")]


def test_what_the_server_said_is_the_one_line_of_a_failed_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Flower prints a traceback of forty lines after it."""
    text = f"{tmp_path / 'run'}\nserver.py: 2 of 3 clients\nSimulation raised an exception\nTraceback (most ...\n"
    with pytest.raises(RunFailed, match=r"^2 of 3 clients$"):
        shown(text, tmp_path, 1)
    assert "Traceback" not in capsys.readouterr().out


def test_before_there_is_a_run_folder_it_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^no such strategy$") as raised:
        shown("server.py: no such strategy\n", tmp_path)
    assert raised.value.status == 2


def test_a_failing_flwr_run_is_a_failed_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(RunFailed, match="`flwr run` ended with status 7"):
        shown("Error: no\n", tmp_path, 7)
    assert capsys.readouterr().out == "Error: no\n"


def test_only_a_finished_run_ends_with_status_0(tmp_path: Path) -> None:
    """`flwr run` itself ends with 0 whatever became of the run."""
    (tmp_path / "summary.json").write_text(json.dumps({"status": "finished"}))
    assert simulate._verdict(tmp_path) == 0
    (tmp_path / "summary.json").write_text(json.dumps({"status": "failed"}))
    with pytest.raises(RunFailed, match="the run is failed"):
        simulate._verdict(tmp_path)
    (tmp_path / "summary.json").write_text(json.dumps({"status": "diverged"}))
    (tmp_path / "history.csv").write_text(
        "round,phase,client,num_examples,loss,accuracy,seconds\n1,evaluate,server,9,0.5,0.8,1\n2,evaluate,server,9,nan,0.1,1\n"
    )
    with pytest.raises(RunFailed, match="not finite since round 2; no checkpoint has a finite loss"):
        simulate._verdict(tmp_path)
    with pytest.raises(RunFailed, match="ended before its run did"):
        simulate._verdict(None)


def test_without_ray_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows with Python 3.13 Flower installs without Ray, and would say so only after a minute."""
    monkeypatch.setattr(simulate.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"Ray is missing: .* `python server.py --spawn 2`"):
        simulate.main([])


STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {STUBBORN!r}], start_new_session=True)
child.wait()
"""


def test_the_whole_tree_ends_with_its_root(capfd: pytest.CaptureFixture) -> None:
    """The child is in another session and ignores the request to end, as a hanging simulation would."""
    process = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"\n"
    tree = descendants([process.pid])
    try:
        assert len(tree) == 2
        started = time.monotonic()
        end_tree(process, patience=0.5)
        assert 0.5 <= time.monotonic() - started < 8
        assert descendants(tree) == set()
        assert process.returncode == -signal.SIGTERM
    finally:
        process.stdout.close()
        for pid in descendants(tree):
            os.kill(pid, signal.SIGKILL)


def test_the_token_on_the_command_line_that_flower_makes_is_not_logged() -> None:
    """Whoever has it acts for the run's server at the SuperLink; a run's log is shown to others."""
    words = ["flwr-serverapp", "--token", "863869f6", "--insecure"]
    assert without_tokens(words) == ["flwr-serverapp", "--token", "(secret)", "--insecure"]
