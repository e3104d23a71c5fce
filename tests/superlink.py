"""A SuperLink and SuperNodes on this machine, as docs/runtimes.md starts them; of each line they say, when it came."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fedkeras.commands.process_tree import descendants, end_tree

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
SLOW_MACHINE = 600.0
CONNECTION = """[superlink]
default = "lab"

[superlink.lab]
address = "127.0.0.1:{port}"
insecure = true
"""


@dataclass(frozen=True)
class Line:
    """What a process said, and when, by the monotonic clock; `who` is 0 for the SuperLink and then counts on."""

    when: float
    who: int
    text: str


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
    """A SuperLink, whose files lie in `folder`, and SuperNodes; on leaving, all of them end."""

    def __init__(self, folder: Path, clients: int = 3) -> None:
        self.folder, self.clients = folder, clients
        self.processes: list[subprocess.Popen] = []
        self.lines: list[Line] = []
        (self.port,) = free_ports(1)
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

    def __enter__(self) -> Self:
        """Start the SuperLink."""
        self._run(BIN / "flower-superlink", "--insecure", "--port", self.port)
        deadline = time.monotonic() + SLOW_MACHINE
        while socket.socket().connect_ex(("127.0.0.1", self.port)):
            assert time.monotonic() < deadline and self.processes[0].poll() is None, self.logs()
            time.sleep(0.2)
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def start_nodes(self, warm: bool) -> None:
        """The SuperNodes: Flower's, with a port each for the processes they start, or warm ones, which find theirs."""
        for cid in range(self.clients):
            flags = ["--insecure", "--superlink", f"127.0.0.1:{self.port}"]
            flags += ["--node-config", f"partition-id={cid} num-partitions={self.clients}"]
            if warm:
                self._run(sys.executable, "-P", "-m", "fedkeras", "supernode", *flags)
            else:
                self._run(BIN / "flower-supernode", *flags, "--port", *free_ports(1))

    def flwr_run(self, config: Mapping[str, str | int | float]) -> str:
        """What `flwr run . lab --stream` prints."""
        table = " ".join(f"{key}={json.dumps(value)}" for key, value in config.items())
        command = [str(BIN / "flwr"), "run", str(ROOT), "lab", "--stream", "-c", table]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.run(command, env=self.environment, text=True, timeout=SLOW_MACHINE, **streams).stdout

    def end_nodes(self) -> set[int]:
        """End the SuperNodes and what they have started; returns the process ids of what is left: none."""
        nodes, self.processes = self.processes[1:], self.processes[:1]
        return _ended(nodes)

    def end(self) -> set[int]:
        """End everything, likewise."""
        return self.end_nodes() | _ended(self.processes)

    def logs(self) -> str:
        """What the long-running processes said."""
        return "\n".join(f"{line.who}: {line.text}" for line in self.lines)

    def _run(self, *command: object) -> None:
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        process = subprocess.Popen(
            list(map(str, command)), env=self.environment, cwd=self.folder, start_new_session=True, **streams
        )
        threading.Thread(target=self._read, args=(process, len(self.processes)), daemon=True).start()
        self.processes.append(process)

    def _read(self, process: subprocess.Popen, who: int) -> None:
        for text in process.stdout:
            self.lines.append(Line(time.monotonic(), who, text.rstrip()))


def _ended(processes: Iterable[subprocess.Popen]) -> set[int]:
    processes = list(processes)
    tree = descendants([process.pid for process in processes])
    for process in processes:
        end_tree(process, 20.0)
    return descendants(tree)
