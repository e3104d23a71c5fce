"""`fedkeras supernode` as a user meets it: flags, ports, and that nothing is left when one of its processes ends."""

import contextlib
import importlib.metadata
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedkeras.commands import supernode
from fedkeras.commands.process_tree import descendants
from fedkeras.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
SLOW_MACHINE = 120.0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--isolation", "subprocess"], "is what flower-supernode alone does: use that"),
        (["--superexec-auth-secret-file", "mine"], "leave it out, a secret is made for every start"),
        (["--allow-runtime-dependency-installation"], "the executor runs what is installed"),
        (["--nonsense", "3"], "unrecognized arguments: --nonsense 3; `python -m fedkeras supernode --help`"),
        (["--port", "0"], "argument --port: value must be between 1 and 65535"),
    ],
)
def test_flags_that_cannot_be_are_refused_in_one_line(flags: list[str], said: str) -> None:
    with pytest.raises(UserError) as refused:
        supernode.main([*flags, "--insecure"])
    assert said in str(refused.value)


def test_a_port_that_is_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"--port {port} is in use on 127.0.0.1: give another, or none"):
            supernode.main(["--insecure", "--port", str(port)])


@pytest.mark.parametrize(("version", "known"), [("1.40.1", False), ("1.43.0", False), ("1.4", False), ("1.42.3", True)])
def test_another_flower_than_it_knows_is_said_in_one_line(
    version: str, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    with pytest.raises(UserError) as refused:
        supernode.main(["--nonsense"])
    line = f"this knows flwr 1.41 and 1.42, and {version} is installed: use flower-supernode"
    assert str(refused.value).startswith(line) is not known


def test_the_installed_flower_is_one_it_knows(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        supernode.main(["--help"])
    text = capsys.readouterr().out
    assert "--node-config" in text and "The code in a run's bundle is not run" in text


class Node:
    """The command, running, with a SuperLink that is not there."""

    def __init__(self, folder: Path, number: int) -> None:
        self.log = folder / f"{number}.log"
        flags = ["--insecure", "--superlink", "127.0.0.1:9", "--node-config", f"partition-id={number}"]
        command = [sys.executable, "-P", "-m", "fedkeras", "supernode", *flags]
        with self.log.open("w") as log:
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
            self.process = subprocess.Popen(command, cwd=folder, start_new_session=True, **streams)

    def wait_until_started(self) -> None:
        """The SuperNode has opened its port, and there are three processes."""
        self.wait(lambda: self.port and len(self.tree()) == 3, "the start")
        words = {pid: (Path("/proc") / str(pid) / "cmdline").read_text().split("\0") for pid in self.tree()}
        (self.supernode,) = (pid for pid, line in words.items() if "run_supernode()" in " ".join(line))
        (self.executor,) = (pid for pid, line in words.items() if "supernode_executor" in " ".join(line))
        assert "/dev/fd/" in " ".join(words[self.supernode])  # the secret's pipe, and no secret

    @property
    def port(self) -> str:
        """On which the executor finds the SuperNode."""
        found = re.search(r"Uvicorn running on http://127.0.0.1:(\d+)", self.said)
        return found[1] if found else ""

    @property
    def said(self) -> str:
        """What all three have printed."""
        return self.log.read_text(errors="replace")

    def tree(self) -> set[int]:
        """The processes that live."""
        return descendants([self.process.pid])

    def wait(self, look: object, what: str) -> None:
        """Until `look` is true."""
        deadline = time.monotonic() + SLOW_MACHINE
        while not look():
            assert time.monotonic() < deadline, f"{what} did not come: {self.said}"
            time.sleep(0.1)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    """Four on one machine, of which none is left afterwards."""
    started = [Node(tmp_path, number) for number in range(4)]
    trees: set[int] = set()
    try:
        for node in started:
            node.wait_until_started()
            trees |= node.tree()
        yield started
    finally:
        for pid in trees | {node.process.pid for node in started}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for node in started:
            node.process.wait()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="processes are looked up in /proc")
def test_whichever_process_ends_the_others_do_too(nodes: list[Node]) -> None:
    """Broken if a signal reaches one of three only, or if two SuperNodes of a machine want one port."""
    assert len({node.port for node in nodes}) == 4
    trees = [node.tree() for node in nodes]
    started = time.monotonic()
    os.kill(nodes[0].process.pid, signal.SIGINT)
    os.kill(nodes[1].process.pid, signal.SIGTERM)
    os.kill(nodes[2].process.pid, signal.SIGKILL)
    os.kill(nodes[3].supernode, signal.SIGKILL)
    for node, tree in zip(nodes, trees, strict=True):
        node.wait(lambda tree=tree: not descendants(tree), "the end of all three")
    assert time.monotonic() - started < 30
    assert [node.process.wait() for node in nodes] == [130, 130, -signal.SIGKILL, 3]
    assert "fedkeras supernode: interrupted" in nodes[0].said
    assert "fedkeras supernode: flower-supernode was ended by SIGKILL; what it said" in nodes[3].said
    assert not any("Traceback" in node.said for node in nodes)
