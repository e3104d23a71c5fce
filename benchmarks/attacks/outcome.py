"""What an attack came to, and what it cost the attacked."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """The end of one attack.

    Attributes:
        held: whether what was attacked did what its documents promise.
        cost: what the attack cost the attacked, in a few words with their units: memory, seconds, accuracy.
    """

    held: bool
    cost: str


def memory_mb(pid: int) -> float:
    """MB (10^6 bytes) that a process holds now."""
    return _of_status(pid, "VmRSS")


def peak_memory_mb(pid: int) -> float:
    """The most MB (10^6 bytes) that a process has ever held."""
    return _of_status(pid, "VmHWM")


def descriptors(pid: int) -> int:
    """How many files and sockets a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _of_status(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024 / 1e6
    raise ValueError(f"process {pid} has no {field}: it has ended")
