"""Client processes on this machine, started and ended by the server: a simulation over the real wire."""

import contextlib
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from fedkeras.errors import UserError

log = logging.getLogger("fedkeras")

CLIENT = Path(__file__).resolve().parents[2] / "client.py"
GRACE_SECONDS = 10.0


@contextlib.contextmanager
def clients(
    count: int, num_partitions: int, server: str, data_dir: str, all_ended: Callable[[str], None]
) -> Iterator[list[subprocess.Popen]]:
    """Run `count` processes of client.py, which serve all partitions between them, meanwhile.

    When the last of them ends, `all_ended` is called with a line that says so: nobody is left to wait for. On leaving,
    processes that do not end by themselves are terminated. 0: no process. Raises UserError for more processes than
    partitions.
    """
    if count > num_partitions:
        raise UserError(
            f"--spawn {count} is more processes than there are partitions (--num-partitions {num_partitions})"
        )
    processes = []
    try:
        with _signals_later():
            _start(processes, count, num_partitions, server, data_dir)
        if processes:
            threading.Thread(target=_watch, args=(processes, all_ended), name="fedkeras-spawn", daemon=True).start()
        yield processes
    except BaseException:
        for process in processes:
            process.terminate()
        raise
    finally:
        for process in processes:
            _end(process)


def _start(processes: list[subprocess.Popen], count: int, num_partitions: int, server: str, data_dir: str) -> None:
    """Start `count` processes and put each into the list at once, so that none is lost if the next cannot start."""
    for number in range(count):
        # With more partitions than processes, all serve all: a cohort is then never seven for one and three for the
        # other. With one each, a process needs to load its own client's data only.
        cids = ["--cid", f"0-{num_partitions - 1}", "--shared"] if count < num_partitions else ["--cid", str(number)]
        command = [sys.executable, str(CLIENT), *cids, "--server", server]
        command += ["--data-dir", data_dir] if data_dir else []
        processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))


@contextlib.contextmanager
def _signals_later() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back: in the middle of starting a process they would leave one that nobody knows."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = []
    before = {number: signal.signal(number, lambda *_: came.append(1)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def _watch(processes: list[subprocess.Popen], all_ended: Callable[[str], None]) -> None:
    statuses = [process.wait() for process in processes]
    all_ended(f"all spawned client processes have ended, with status {', '.join(map(str, statuses))}")


def _end(process: subprocess.Popen) -> None:
    """Wait for a process that was told to end; end it if it does not."""
    for end in (process.terminate, process.kill, None):
        try:
            process.wait(GRACE_SECONDS)
            return
        except subprocess.TimeoutExpired:
            log.warning("client process %d does not end", process.pid)
            if end:
                end()
