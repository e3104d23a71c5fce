"""The same apps on Flower's SuperLink with three SuperNodes, as docs/runtimes.md starts them."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedkeras.commands.process_tree import descendants, end_tree
from fedkeras.reports.history import read_rows

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
ROUNDS, CLIENTS = 2, 3
SLOW_MACHINE = 600.0
CONNECTION = """[superlink]
default = "lab"

[superlink.lab]
address = "127.0.0.1:{port}"
insecure = true
"""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Deployment:
    """A SuperLink and SuperNodes on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.processes = folder, []
        self.port, *self._node_ports = free_ports(1 + CLIENTS)
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(BIN), os.environ.get("PATH", "")]),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_HOME": str(folder / "home"),
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
        }
        (folder / "home").mkdir()
        (folder / "home" / "config.toml").write_text(CONNECTION.format(port=self.port))

    def start(self) -> None:
        """The SuperLink, then the SuperNodes: one port each, for the processes they start."""
        self._run("flower-superlink", "--insecure", "--port", self.port)
        deadline = time.monotonic() + SLOW_MACHINE
        while socket.socket().connect_ex(("127.0.0.1", self.port)):
            assert time.monotonic() < deadline and self.processes[0].poll() is None, self.logs()
            time.sleep(0.2)
        for cid, port in enumerate(self._node_ports):
            node = ["--superlink", f"127.0.0.1:{self.port}", "--port", port]
            table = f"partition-id={cid} num-partitions={CLIENTS}"
            self._run("flower-supernode", "--insecure", *node, "--node-config", table)

    def flwr_run(self, **config: object) -> str:
        """What `flwr run . lab --stream` prints."""
        table = " ".join(f"{key.replace('_', '-')}={json.dumps(value)}" for key, value in config.items())
        command = [str(BIN / "flwr"), "run", str(ROOT), "lab", "--stream", "-c", table]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.run(command, env=self.environment, text=True, timeout=SLOW_MACHINE, **streams).stdout

    def end(self) -> set[int]:
        """End everything that was started; returns the process ids of what is left, which should be none."""
        tree = descendants([process.pid for process in self.processes])
        for process in self.processes:
            end_tree(process, 20.0)
        return descendants(tree)

    def logs(self) -> str:
        """What the long-running processes said."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log")))

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(BIN / program), *map(str, arguments)]
        with (self.folder / f"{len(self.processes)}-{program}.log").open("w") as log:
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
            self.processes.append(
                subprocess.Popen(command, env=self.environment, cwd=self.folder, start_new_session=True, **streams)
            )


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """A running SuperLink with three SuperNodes, which end with the test."""
    running = Deployment(tmp_path)
    try:
        running.start()
        yield running
    finally:
        running.end()


@pytest.mark.slow
def test_the_apps_run_unchanged_on_superlink_and_supernodes(deployment: Deployment, tmp_path: Path) -> None:
    """Broken if an app leans on a process that lives on, the checkout or node ids: here each message starts anew."""
    said = deployment.flwr_run(num_server_rounds=ROUNDS, run_dir=str(tmp_path / "runs"))
    (run,) = (tmp_path / "runs").iterdir()
    assert said.splitlines()[-1] == str(run), said + deployment.logs()
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["rounds"]) == ("finished", ROUNDS)
    assert summary["accuracy"] > 0.5  # chance is 0.1
    rows = read_rows(run / "history.csv")
    trained = [row["client"] for row in rows if row["phase"] == "train" and row["round"] == ROUNDS]
    assert trained == ["0", "1", "2", "all"]
    assert (run / "model.keras").exists()
    assert deployment.end() == set()

    command = [
        sys.executable,
        str(ROOT / "server.py"),
        "--port",
        "0",
        "--spawn",
        "2",
        "--num-server-rounds",
        str(ROUNDS),
    ]
    subprocess.run(command, cwd=tmp_path, env=deployment.environment, check=True, timeout=SLOW_MACHINE)
    (other,) = set((tmp_path / "runs").iterdir()) - {run}
    assert without_seconds(read_rows(other / "history.csv")) == without_seconds(rows)


def without_seconds(rows: list[dict]) -> list[dict]:
    """What a clock has no part in: losses and accuracies to the last bit."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
