"""`fedkeras demo`: four terminals in one, a server and three times a client with --cid N."""

import socket
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fedkeras import lifeline
from fedkeras.checkout import program, started, typed
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.fields import embedded
from fedkeras.flags import parse_flags

CLIENTS = 3
END_SECONDS = 20.0
"""How long a client may take to end after a server that told it to."""
FAILED_SECONDS = 2.0
"""The same after a server that failed, and may have told nobody."""
LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class DemoFlags:
    """Run a server and three clients, as in four terminals; the flags are server.py's."""

    config: Config = embedded(Config, hidden=("host", "port", "spawn", "gpus_per_client", "app", "app_config"))


def main(args: Sequence[str]) -> int:
    """Run the demo; `args` are passed on to server.py. Returns the server's exit status."""
    if {"-h", "--help"} & {*args}:
        parse_flags(DemoFlags, ["--help"], program("demo"))
    port = _free_port()
    server = ("server", ["--port", str(port), *args])
    clients = [("client", ["--cid", str(cid), "--server", f"127.0.0.1:{port}"]) for cid in range(CLIENTS)]
    processes = []
    try:
        for name, words in [server, *clients]:
            print("$", typed(name, *words), flush=True)
            # The server's lines are the demo; of the clients only errors are shown.
            quiet = subprocess.DEVNULL if name == "client" else None
            processes.append(subprocess.Popen([*started(name), *words], stdout=quiet, **lifeline.tied()))
        listened = _has_listened_until_its_end(processes[0], port)
        status = processes[0].returncode
        if not listened:  # they would look for it for a minute, and then complain of something else
            return status
        if status:
            _wait(processes[1:], FAILED_SECONDS)
            return status
        if not _wait(processes[1:], END_SECONDS):
            raise UserError(f"a client did not end within {END_SECONDS:g} s of the server")
        return next(filter(None, (process.returncode for process in processes[1:])), 0)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()


def _has_listened_until_its_end(server: subprocess.Popen, port: int) -> bool:
    """Wait for the server's end; True if it has listened on its port before."""
    listened = False
    while not listened:
        try:
            server.wait(LOOK_SECONDS)
            return False
        except subprocess.TimeoutExpired:
            listened = _listens(port)
    server.wait()
    return True


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), LOOK_SECONDS).close()
    except OSError:
        return False
    return True


def _wait(clients: Iterable[subprocess.Popen], seconds: float) -> bool:
    """True if all of them end by themselves within so many seconds."""
    deadline = time.monotonic() + seconds
    try:
        for client in clients:
            client.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
