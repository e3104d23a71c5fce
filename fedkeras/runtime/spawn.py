"""Client processes on this machine (`--spawn`), started and ended by the server: a simulation over real connections."""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from fedkeras import gpus, lifeline
from fedkeras.checkout import started
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.runtime import pipe as pipes
from fedkeras.runtime.holder_key import VARIABLE

log = logging.getLogger("fedkeras")

GRACE_SECONDS = 10.0
"""How long a client process has to end by itself, and then after SIGTERM."""


@contextlib.contextmanager
def clients(
    config: Config,
    port: int,
    all_ended: Callable[[str], None],
    shareable: bool,
    allow: str = "",
    trust_code: bool = False,
    holder_key: bytes = b"",
    pipe: Callable[[], socket.socket | None] = lambda: None,
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run `config.spawn` processes of client.py (0: none), which serve all partitions between them, meanwhile.

    `shareable`: a message may go to any of several processes, since a client keeps nothing between two messages.
    `allow` and `trust_code` are what the person who starts the server permits the clients as well: the same flags of
    client.py. `holder_key` shows the server that they are its own. `pipe` gives each process a way in of its own
    (`GrpcGrid.pipe`); None: it takes the port. When the last process ends, `all_ended` is called with a line that says
    so: no client is left to wait for. On leaving, processes that do not end by themselves are terminated. Which GPU
    each sees is dealt out before.

    Raises UserError for more processes than partitions, for more than there are GPUs for, and where the server demands
    what a spawned client does not have.
    """
    if config.gpus_per_client and not config.spawn:
        raise UserError(
            "--gpus-per-client is for processes that the server starts (--spawn N); a client that somebody starts sees "
            f"the GPUs of its own {gpus.VISIBLE}"
        )
    if config.spawn > config.num_partitions:
        raise UserError(
            f"--spawn {config.spawn} is more processes than there are partitions "
            f"(--num-partitions {config.num_partitions})"
        )
    if config.spawn and config.tls_client_ca:
        raise UserError("--spawn starts clients without certificates of their own: leave out --tls-client-ca")
    own_flags = client_flags(config, port, allow, trust_code)
    processes: list[subprocess.Popen[bytes]] = []
    environment = os.environ | ({VARIABLE: holder_key.hex()} if holder_key else {})
    found = gpus.visible_gpus() if config.spawn else ()
    dealt = gpus.deal(config.spawn, config.gpus_per_client, found)
    if line := gpus.said(dealt, found):
        print(line, flush=True)
    try:
        with _signals_later():
            for cids, seen in zip(partition_flags(config, shareable), dealt, strict=True):
                own = environment | gpus.environment_of(seen, config.gpus_per_client)
                command = [*started("client"), *cids, *own_flags]
                processes.append(_started(command, own, pipe))
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


def _started(
    command: Sequence[str], environment: Mapping[str, str], pipe: Callable[[], socket.socket | None]
) -> subprocess.Popen[bytes]:
    """One process, which ends with this one, and has its end of a pipe if there is one."""
    with contextlib.ExitStack() as handed_on:
        own = lifeline.tied(environment)
        if (theirs := pipe()) is not None:
            handed_on.enter_context(theirs)
            own["env"] = {**own["env"], pipes.VARIABLE: str(theirs.fileno())}
            own["pass_fds"] = (*own["pass_fds"], theirs.fileno())
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        # A session of its own: Ctrl-C in the terminal is for the server, which lets the round finish first.
        return subprocess.Popen(command, start_new_session=True, **quiet, **own)


def partition_flags(config: Config, shareable: bool) -> list[list[str]]:
    """Each process's flags that say which partitions it serves."""
    count, partitions = config.spawn, config.num_partitions
    # With more partitions than processes, all serve all: a cohort is then never seven for one and three for the other.
    # With one each, a process needs to load its own client's data only. Another app may keep something in its
    # context.state, so its processes share none.
    if count < partitions and shareable and not config.app:
        return [["--cid", f"0-{partitions - 1}", "--shared"]] * count
    return [["--cid", ",".join(str(cid) for cid in range(number, partitions, count))] for number in range(count)]


def client_flags(config: Config, port: int, allow: str, trust_code: bool) -> list[str]:
    """The flags that all processes are started with."""
    # The server's own chain holds the authority that signed it, and names this machine (`python -m fedkeras certs`).
    given = {
        "--server": f"{address_here(config.host)}:{port}",
        "--data-dir": config.data_dir,
        "--decimal": config.decimal,
        "--thousands": config.thousands,
        "--app": config.app,
        "--passphrase-file": config.passphrase_file,
        "--tls-ca": config.tls_cert,
        "--allow": allow,
    }
    switches = {"--trust-code": trust_code, "--insecure": config.insecure}
    flags = [word for flag, value in given.items() if value for word in (flag, value)]
    flags += ["--sent-log", "none"]  # what they send stays on this machine, with whoever started them
    return [*flags, *(flag for flag, on in switches.items() if on)]


def address_here(host: str) -> str:
    """The address of a server that listens on `host`, seen from this machine."""
    address = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{address}]" if ":" in address else address


@contextlib.contextmanager
def _signals_later() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back: while a process is being started, they would leave it behind unknown."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda *_: came.append(1)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def _watch(processes: list[subprocess.Popen[bytes]], all_ended: Callable[[str], None]) -> None:
    statuses = [process.wait() for process in processes]
    all_ended(f"all spawned client processes have ended, with status {', '.join(map(str, statuses))}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process whose run has ended; end it if it does not end by itself."""
    for end in (process.terminate, process.kill, None):
        try:
            process.wait(GRACE_SECONDS)
            return
        except subprocess.TimeoutExpired:
            log.warning("client process %d does not end", process.pid)
            if end:
                end()
