"""What a figure was measured on: the machine, the versions, what else was running, and how fast it was just then."""

import os
import platform
import socket
import subprocess
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks.blocks import BLOCKS, interleaved, timed
from fedkeras.reports.summary import versions

ROOT = Path(__file__).resolve().parents[1]
BUSY_CORES = 0.25
"""Of others' work, from which on times are not to be trusted."""
_COPY_BYTES = 32_000_000
_LOOPBACK_BYTES = 16_000_000


def description() -> dict[str, object]:
    """The machine: what must be equal for times to be compared."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return {"cpu": _cpu(), "cores": cores, "memory_gb": round(memory / 1e9, 1), "system": platform.platform()}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def software() -> dict[str, str | None]:
    """Versions of Python and of what decides the figures."""
    return {**versions(), "numpy": np.__version__}


def revision() -> dict[str, object]:
    """The commit of this checkout, and whether files that it knows are changed; None where git says nothing."""
    return {"commit": _git("rev-parse", "HEAD"), "changed": bool(_git("status", "--porcelain", "-uno"))}


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def busy_cores(seconds: float = 1.0) -> float | None:
    """Cores that are at work during `seconds` in which this process sleeps; None where /proc does not say."""
    if (before := _busy_seconds()) is None:
        return None
    started = time.monotonic()
    time.sleep(seconds)
    return round((_busy_seconds() - before) / (time.monotonic() - started), 2)


def _busy_seconds() -> float | None:
    """Of all cores, since the machine was started: user, nice, system, interrupts and what other machines took."""
    try:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _, _, interrupts, soft, *stolen = map(int, fields[:8])
    return (user + nice + system + interrupts + soft + sum(stolen)) / os.sysconf("SC_CLK_TCK")


def yardsticks() -> dict[str, list[float]]:
    """Seconds of four small fixed pieces of work, in blocks: a loop in Python, a product of matrices, a copy of 32 MB
    of memory, and 16 MB through a pair of sockets. Their change between two files is the machine's, not a version's.
    """
    rng = np.random.default_rng(0)
    matrix = rng.random((512, 512), np.float32)
    source, target = np.ones(_COPY_BYTES, np.uint8), np.empty(_COPY_BYTES, np.uint8)
    work = {
        "python": lambda: sum(number & 7 for number in range(200_000)),
        "matmul": lambda: [matrix @ matrix for _ in range(5)],
        "copy": lambda: np.copyto(target, source),
        "sockets": _through_sockets,
    }
    for once in work.values():
        once()
    found = interleaved({name: lambda once=once: timed(once) for name, once in work.items()}, BLOCKS)
    return {name: [round(value, 6) for value in values] for name, values in found.items()}


def _through_sockets() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=ours.sendall, args=(bytes(_LOOPBACK_BYTES),))
        sender.start()
        left, buffer = _LOOPBACK_BYTES, bytearray(1 << 20)
        while left:
            left -= theirs.recv_into(buffer)
        sender.join()


def state() -> dict[str, object]:
    """How busy the machine is now, and how fast; takes some two seconds."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"busy_cores": busy_cores(), "load_average": load, "yardsticks": yardsticks()}
