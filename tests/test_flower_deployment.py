"""The same apps on a SuperLink with three SuperNodes, as docs/runtimes.md starts them: Flower's, then warm ones."""

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
CLIENTS, WARM_ROUNDS = 3, 3
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
        """The SuperLink."""
        self._run("flower-superlink", "--insecure", "--port", self.port)
        deadline = time.monotonic() + SLOW_MACHINE
        while socket.socket().connect_ex(("127.0.0.1", self.port)):
            assert time.monotonic() < deadline and self.processes[0].poll() is None, self.logs()
            time.sleep(0.2)

    def start_nodes(self, warm: bool) -> None:
        """The SuperNodes: Flower's, with a port each for the processes they start, or warm ones, which find theirs."""
        for cid, port in enumerate(self._node_ports):
            flags = ["--insecure", "--superlink", f"127.0.0.1:{self.port}"]
            flags += ["--node-config", f"partition-id={cid} num-partitions={CLIENTS}"]
            if warm:
                self._run("fedkeras", "supernode", *flags)
            else:
                self._run("flower-supernode", *flags, "--port", port)

    def end_nodes(self) -> set[int]:
        """End the SuperNodes and what they have started; returns the process ids of what is left."""
        return self._end(self.processes[1:])

    def flwr_run(self, **config: object) -> str:
        """What `flwr run . lab --stream` prints."""
        table = " ".join(f"{key.replace('_', '-')}={json.dumps(value)}" for key, value in config.items())
        command = [str(BIN / "flwr"), "run", str(ROOT), "lab", "--stream", "-c", table]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.run(command, env=self.environment, text=True, timeout=SLOW_MACHINE, **streams).stdout

    def end(self) -> set[int]:
        """End everything that was started; returns the process ids of what is left, which should be none."""
        return self._end(self.processes)

    def _end(self, processes: list[subprocess.Popen]) -> set[int]:
        tree = descendants([process.pid for process in processes])
        for process in processes:
            end_tree(process, 20.0)
        return descendants(tree)

    def logs(self) -> str:
        """What the long-running processes said."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log")))

    def _run(self, program: str, *arguments: object) -> None:
        own = [sys.executable, "-P", "-m", "fedkeras"] if program == "fedkeras" else [str(BIN / program)]
        command = [*own, *map(str, arguments)]
        with (self.folder / f"{len(self.processes)}-{program}.log").open("w") as log:
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
            self.processes.append(
                subprocess.Popen(command, env=self.environment, cwd=self.folder, start_new_session=True, **streams)
            )


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """A running SuperLink, which ends with the test, as do its SuperNodes."""
    running = Deployment(tmp_path)
    try:
        running.start()
        yield running
    finally:
        running.end()


def run_on(deployment: Deployment, runs: Path, rounds: int) -> Path:
    """The folder of a whole run on the nodes that there are."""
    before = set(runs.iterdir()) if runs.exists() else set()
    said = deployment.flwr_run(num_server_rounds=rounds, run_dir=str(runs))
    (run,) = set(runs.iterdir()) - before
    assert said.splitlines()[-1] == str(run), said + deployment.logs()
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["rounds"]) == ("finished", rounds)
    trained = [row["client"] for row in read_rows(run / "history.csv") if row["phase"] == "train"]
    assert trained == ["0", "1", "2", "all"] * rounds
    assert (run / "model.keras").exists()
    assert "(secret)" in (run / "run.log").read_text()  # the token that Flower puts on the server app's command line
    return run


@pytest.mark.slow
def test_the_apps_run_unchanged_on_superlink_and_supernodes(deployment: Deployment, tmp_path: Path) -> None:
    """Broken if an app leans on a process that lives on, the checkout or node ids: Flower starts each message anew.

    And on warm ones if what stays in the process changes a single bit. One SuperLink for both, and one run over gRPC.
    """
    runs = tmp_path / "runs"
    deployment.start_nodes(warm=False)
    cold = run_on(deployment, runs, rounds=1)
    assert deployment.end_nodes() == set()
    deployment.start_nodes(warm=True)
    warm = run_on(deployment, runs, rounds=WARM_ROUNDS)
    assert json.loads((warm / "summary.json").read_text())["accuracy"] > 0.5  # chance is 0.1
    assert deployment.end() == set()

    command = [sys.executable, str(ROOT / "server.py"), "--port", "0", "--spawn", "2"]
    command += ["--num-server-rounds", str(WARM_ROUNDS)]
    subprocess.run(command, cwd=tmp_path, env=deployment.environment, check=True, timeout=SLOW_MACHINE)
    (other,) = set(runs.iterdir()) - {cold, warm}
    rows = read_rows(other / "history.csv")
    assert without_seconds(read_rows(warm / "history.csv")) == without_seconds(rows)
    first = [row for row in rows if row["round"] == 1]
    assert without_seconds(read_rows(cold / "history.csv")) == without_seconds(first)
    for name, run in (("flower-supernode", cold), ("fedkeras supernode", warm), ("gRPC", other)):
        print(f"{name}: {json.loads((run / 'summary.json').read_text())['seconds']:.1f} s", seconds_a_round(run))


def seconds_a_round(run: Path) -> list[float]:
    """How long each round took, its training and its tests."""
    seconds: dict[int, float] = {}
    for row in read_rows(run / "history.csv"):
        if row["client"] in ("all", "server"):
            seconds[row["round"]] = seconds.get(row["round"], 0.0) + row["seconds"]
    return [round(each, 2) for each in seconds.values()]


def without_seconds(rows: list[dict]) -> list[dict]:
    """What a clock has no part in: losses and accuracies to the last bit."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
