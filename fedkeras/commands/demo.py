"""`python -m fedkeras demo`: four terminals in one, `python server.py` and three times `python client.py --cid N`."""

import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fedkeras.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = 3
END_SECONDS = 20.0


def main(args: Sequence[str]) -> int:
    """Run the demo; `args` are passed on to server.py. Returns the server's exit status."""
    address = f"127.0.0.1:{_free_port()}"
    server = ["server.py", "--port", address.split(":")[1], *args]
    clients = [["client.py", "--cid", str(cid), "--server", address] for cid in range(CLIENTS)]
    processes = []
    try:
        for command in [server, *clients]:
            print("$ python", *command, flush=True)
            # The server's lines are the demo; of the clients only errors are shown.
            quiet = subprocess.DEVNULL if command in clients else None
            processes.append(subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=quiet))
        status = processes[0].wait()
        statuses = [process.wait(END_SECONDS) for process in processes[1:]]
    except subprocess.TimeoutExpired as error:
        raise UserError(f"a client did not end within {END_SECONDS:g} s of the server") from error
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
    return status or next(filter(None, statuses), 0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
