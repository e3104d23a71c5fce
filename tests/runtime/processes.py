"""Real processes for tests: output in files (a full pipe blocks nobody), waits with deadlines, nothing left running."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fedkeras.runtime.grpc_grid import GrpcGrid
from fedkeras.runtime.pipe import VARIABLE

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
SLOW_MACHINE = 300.0
"""Seconds that no healthy step takes, even with other work on the machine: a deadline against hanging, no promise."""


def until(condition: Callable[[], object], what: str, seconds: float = SLOW_MACHINE) -> object:
    """Poll until `condition()` is true and return it; fail the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        time.sleep(0.02)
    return result


class Process:
    """A started command with its output so far."""

    def __init__(self, command: list[str], folder: Path, name: str, pipe: socket.socket | None = None) -> None:
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        # This checkout's code, whatever is installed, also for scripts that lie in another folder than server.py.
        path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
        own = {"FLWR_TELEMETRY_ENABLED": "0", "FEDKERAS_CACHE": str(folder / "cache"), "PYTHONPATH": path}
        environment = {**os.environ, **own, **({VARIABLE: str(pipe.fileno())} if pipe else {})}
        with self._out.open("w") as out, self._err.open("w") as err:
            self.popen = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                pass_fds=(pipe.fileno(),) if pipe else (),
            )  # fmt: skip

    @property
    def out(self) -> str:
        return self._out.read_text(errors="replace")

    @property
    def err(self) -> str:
        return self._err.read_text(errors="replace")

    @property
    def complaints(self) -> list[str]:
        """The lines on stderr, but those that come of a slow machine."""
        return [line for line in self.err.splitlines() if not line.startswith("warning: waiting for clients")]

    def ended(self, seconds: float = SLOW_MACHINE) -> int:
        """Wait for the end; the exit status."""
        until(lambda: self.popen.poll() is not None, f"the end of {self.popen.args}\n{self.out}\n{self.err}\n", seconds)
        return self.popen.returncode

    def said(self, text: str) -> None:
        """Wait for `text` on stdout."""

        def there() -> bool:
            if text in self.out:
                return True
            assert self.popen.poll() is None, f"ended with {self.popen.returncode} before it said '{text}': {self.err}"
            return False

        until(there, f"'{text}' from {self.popen.args}: {self.out} {self.err}")


class Starter:
    """Starts processes in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[Process] = []

    def __call__(self, *command: object, pipe: socket.socket | None = None) -> Process:
        """Start any command; `pipe` is handed on to it."""
        process = Process([str(part) for part in command], self.folder, f"process-{len(self.processes)}", pipe)
        self.processes.append(process)
        return process

    def python(self, script: Path, *flags: object) -> Process:
        """Start a Python script."""
        return self(sys.executable, script, *flags)

    def toy(self, server: str, cids: object, *flags: object) -> Process:
        """A toy client, not waited for."""
        return self.python(HERE / "toy_client.py", server, cids, *flags)

    def piped_toy(self, grid: GrpcGrid, cids: object) -> Process:
        """The same, with a pipe to the grid."""
        with grid.pipe() as pipe:
            return self(sys.executable, HERE / "toy_client.py", grid.address, cids, pipe=pipe)

    def client(self, server: str, cids: object, *flags: object) -> Process:
        """`python client.py`, which waits for its server as long as a loaded machine may need.

        TensorFlow, which the client imports meanwhile, can keep its other threads from running for many seconds.
        """
        patience = () if "--max-wait" in flags else ("--max-wait", SLOW_MACHINE)
        return self.python(ROOT / "client.py", "--server", server, "--cid", cids, *patience, *flags)

    def server(self, *flags: object, script: Path = ROOT / "server.py") -> tuple[Process, str]:
        """`python server.py` on a free port, listening, and its address."""
        server = self.python(script, "--port", 0, *flags)
        server.said("listening on ")
        until(lambda: "\n" in server.out, "the address")
        return server, server.out.split()[2]

    def toy_server(self, *flags: object) -> tuple[Process, str]:
        """The same for toy clients, who have no Keras model to be saved in the end."""
        return self.server(*flags, script=HERE / "toy_server.py")

    def run_folder(self) -> Path:
        """The folder of the only run that was started here."""
        (folder,) = until(lambda: list((self.folder / "runs").glob("*/")), "a run folder")
        return folder


@contextlib.contextmanager
def starting(folder: Path) -> Iterator[Starter]:
    """A Starter whose processes do not outlive the block."""
    starter = Starter(folder)
    try:
        yield starter
    finally:
        for process in starter.processes:
            if process.popen.poll() is None:
                process.popen.kill()
            process.popen.wait()
