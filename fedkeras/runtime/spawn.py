"""Client processes on this machine, started and ended by the server: a simulation over the real wire."""

import contextlib
import logging
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator

from fedkeras.checkout import started
from fedkeras.config import Config
from fedkeras.errors import UserError

log = logging.getLogger("fedkeras")

GRACE_SECONDS = 10.0


@contextlib.contextmanager
def clients(config: Config, port: int, all_ended: Callable[[str], None]) -> Iterator[list[subprocess.Popen]]:
    """Run `config.spawn` processes of client.py, which serve all partitions between them, meanwhile.

    When the last of them ends, `all_ended` is called with a line that says so: nobody is left to wait for. On leaving,
    processes that do not end by themselves are terminated. 0: no process. Raises UserError for more processes than
    partitions, and where the server demands what a spawned client does not have.
    """
    if config.spawn > config.num_partitions:
        raise UserError(
            f"--spawn {config.spawn} is more processes than there are partitions "
            f"(--num-partitions {config.num_partitions})"
        )
    if config.spawn and config.tls_client_ca:
        raise UserError("--spawn starts clients without certificates of their own: leave out --tls-client-ca")
    processes = []
    try:
        with _signals_later():
            _start(processes, config, port)
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


def _start(processes: list[subprocess.Popen], config: Config, port: int) -> None:
    """Start the processes and put each into the list at once, so that none is lost if the next cannot start."""
    # The server's own chain holds the authority that signed it, and names this machine (`python -m fedkeras certs`).
    given = {
        "--server": f"{address_here(config.host)}:{port}",
        "--data-dir": config.data_dir,
        "--app": config.app,
        "--passphrase-file": config.passphrase_file,
        "--tls-ca": config.tls_cert,
    }
    flags = [word for flag, value in given.items() if value for word in (flag, value)]
    count, partitions = config.spawn, config.num_partitions
    for number in range(count):
        # With more partitions than processes, all serve all: a cohort is then never seven for one and three for the
        # other. With one each, a process needs to load its own client's data only. Another app may keep something in
        # its context.state, and in split learning a client is half-way between two messages: such processes share none.
        shared = count < partitions and not config.app and shareable(config)
        own = ",".join(str(cid) for cid in range(number, partitions, count))
        cids = ["--cid", f"0-{partitions - 1}", "--shared"] if shared else ["--cid", own]
        command = [*started("client"), *cids, *flags]
        # A session of its own: Ctrl-C in the terminal is for the server, which lets the round finish first.
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        processes.append(subprocess.Popen(command, start_new_session=True, **quiet))


def shareable(config: Config) -> bool:
    """Whether a message may go to any of several processes: not in split learning or server-led training."""
    return config.split == "off" and not config.data_source and not config.collect_only


def address_here(host: str) -> str:
    """Where a server that listens on `host` is found from this machine."""
    here = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{here}]" if ":" in here else here


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
