"""`python server.py` and `python client.py` as a user meets them: help, wrong flags, nobody there."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from fedkeras.client_config import ClientConfig
from fedkeras.config import Config, flag
from fedkeras.errors import UserError
from fedkeras.flags import parse_flags

ROOT = Path(__file__).resolve().parents[1]


def run(folder: Path, script: str, *flags: object) -> subprocess.CompletedProcess:
    """Run a program to its end, in an empty folder."""
    command = [sys.executable, str(ROOT / script), *map(str, flags)]
    return subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
    )


def complaint(ended: subprocess.CompletedProcess, status: int = 2) -> str:
    """The one line on stderr of a program that refused."""
    assert ended.returncode == status, ended.stderr
    assert "Traceback" not in ended.stderr
    (line,) = ended.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        ("server.py", [flag(field.name) for field in dataclasses.fields(Config)]),
        ("client.py", ["cid", "server", "data-dir", "max-wait"]),
    ],
)
def test_help_documents_every_flag(tmp_path: Path, script: str, flags: list[str]) -> None:
    ended = run(tmp_path, script, "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    entries = ended.stdout.split("│ --")
    for name in flags:
        (entry,) = (entry for entry in entries if entry.split()[0].rstrip(",") == name)
        words = entry.replace("│", " ").split("(default")[0].split()
        assert len(words) > 4, f"--{name} is not explained: {entry}"
    assert list(tmp_path.iterdir()) == []


def test_help_of_which_only_the_beginning_is_read(tmp_path: Path) -> None:
    """`python server.py --help | head`"""
    command = [sys.executable, str(ROOT / "server.py"), "--help"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--nonsense"], "--nonsense"),
        (["--local-epoch", "3"], "Perhaps you meant --local-epochs; `server.py --help` lists all flags"),
        (["--num-server-rounds", "x"], "--num-server-rounds"),
        (["--num-server-rounds", "0"], "--num-server-rounds must be at least 1"),
        (["--partitioner", "bread"], "--partitioner"),
        (["--learning-rate", "nan"], "--learning-rate"),
        (["--port", "65536"], "--port must be at least 0 and at most 65535"),
        (["--port"], "--port"),
        (["--strategy", "fedbest"], "fedbest"),
        (["--strategy-args", "eta"], "--strategy-args"),
        (["--min-available-nodes", "4"], "--min-available-nodes is 4"),
        (["--host", "0.0.0.0"], "--host is 0.0.0.0, which others can reach, and anybody could join"),
        (["--host", "192.168.1.7"], "or say --insecure"),
        (["--spawn", "4"], "--spawn 4 is more processes than there are partitions"),
        (["stray"], "stray"),
    ],
)
def test_the_server_refuses_bad_flags(tmp_path: Path, flags: list[str], named: str) -> None:
    port = [] if "--port" in flags else ["--port", 0]
    line = complaint(run(tmp_path, "server.py", *port, *flags))
    assert line.startswith("server.py: ")
    assert named in line


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--cid", "first"], "--cid is 'first'; give a number like 3, a range like 0-9, or 0,2,5"),
        (["--cid", "-1"], "--cid"),
        (["--cid", "9-0"], "--cid is '9-0'"),
        (["--cid", "1-2-3"], "--cid is '1-2-3'"),
        (["--shared"], "--shared needs the --cid"),
        (["--cid", "0", "--allow", "mods"], "--allow: 'mods' is not of the form KIND=package.module:Class"),
        (["--cid", "0", "--allow", "models=mine:M"], "--allow: 'models=mine:M'"),
        (["--cid", "0-99999999999"], "--cid is '0-99999999999'"),
        (["--cid", "4294967296"], "--cid is '4294967296'"),
        (["--cid", "0", "--server", "nowhere"], "--server is 'nowhere'; give HOST:PORT"),
        (["--cid", "0", "--server", "127.0.0.1:99999"], "--server is '127.0.0.1:99999'"),
        (["--cid", "0", "--max-wait", "soon"], "--max-wait"),
        (["--cid", "0", "--max-wait", "nan"], "--max-wait must be"),
        (["--cid", "0", "--max-wait", "-1"], "--max-wait"),
        (["--cid", "0", "--rounds", "3"], "--rounds"),
        (["--cid", "0", "--max-wiat", "3"], "Perhaps you meant --max-wait"),
    ],
)
def test_the_client_refuses_bad_flags(tmp_path: Path, flags: list[str], named: str) -> None:
    line = complaint(run(tmp_path, "client.py", *flags))
    assert line.startswith("client.py: ")
    assert named in line


@pytest.mark.parametrize("max_wait", [0.5, 2, 6])
def test_a_client_without_a_server_says_what_it_waits_for(tmp_path: Path, max_wait: float) -> None:
    """The waits end before, in and after the import of TensorFlow, which must neither swallow the line nor abort."""
    ended = run(tmp_path, "client.py", "--cid", 0, "--server", "127.0.0.1:1", "--max-wait", max_wait)
    assert complaint(ended) == (
        f"client.py: no server answers at 127.0.0.1:1 after {max_wait} s: start it first, or give --server"
    )
    if max_wait != 2:  # on a busy machine the import may hold the process up for most of two seconds
        assert ("waiting for the server at 127.0.0.1:1" in ended.stdout) == (max_wait > 1)


def test_a_run_without_clients_says_who_is_missing(tmp_path: Path) -> None:
    ended = run(tmp_path, "server.py", "--port", 0, "--node-timeout", 0.5)
    assert complaint(ended, status=3) == (
        "server.py: 0 of 3 clients are connected (missing: cid 0, 1, 2) after 1 s (--node-timeout)"
    ) or "after 0 s" in complaint(ended, status=3)
    (summary,) = tmp_path.glob("runs/*/summary.json")
    assert '"status": "failed"' in summary.read_text()


def test_a_client_knows_which_code_the_server_may_name() -> None:
    flags = ["--allow", "mods=mine:Clip, objectives=mine:Loss"]
    given = parse_flags(ClientConfig, flags, "client.py").permission
    given.require("mods", "mine:Clip")
    given.require("objectives", "mine:Loss")
    with pytest.raises(UserError, match="--allow objectives=mine:Clip, or with --trust-code"):
        given.require("objectives", "mine:Clip")
    with pytest.raises(UserError, match="--allow mods=mine:Clip"):
        ClientConfig().permission.require("mods", "mine:Clip")
    parse_flags(ClientConfig, ["--trust-code"], "client.py").permission.require("mods", "mine:Clip")
