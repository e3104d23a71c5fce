"""Clients that have joined and then attack: memory, time, and the cids of others.

The real server.py and clients that learn by arithmetic; the attacker is a process with a folder of its own
(wire_client.py). The run must end as an undisturbed one, or without the attacker's part, and soon.
"""

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from faults.stage import Stage, stage
from processes import Process, Starter

from benchmarks.attacks.outcome import Outcome, memory_mb, peak_memory_mb

SCRIPT = Path(__file__).resolve().parent / "wire_client.py"
SOON = 15.0
"""Seconds in which a run of few short rounds ends, however it is attacked; its round time-out is 300."""

ROUNDS = 15
"""Some seconds of a run."""

UNDER_WAY_MB = 320.0
"""What replies under way may take of the server: 64 MiB, 128 for slow ones, what is in gRPC's buffers, and copies."""


@contextlib.contextmanager
def run(folder: Path, *flags: object, partitions: int = 4, size: int = 100, rounds: int = 3) -> Iterator[Stage]:
    """A run that waits for 3 of its clients, with a time-out of 300 s a round."""
    with stage(folder, rounds=rounds, size=size, train_seconds=0.1) as made:
        made.partitions = partitions
        made.serve("--round-timeout", 300, "--rest-after", 0, *flags)
        yield made


def attack(made: Stage, cids: object, how: str, *flags: object) -> Process:
    """Start the attacker, in another folder than the honest clients'."""
    folder = made.start.folder / f"attacker-{len(made.start.processes)}"
    folder.mkdir()
    other = Starter(folder)
    process = other.python(SCRIPT, made.address, cids, "--how", how, *flags)
    made.start.processes.append(process)  # ended with the stage
    return process


def begin(made: Stage) -> tuple[float, float]:
    """Let the honest do two rounds, then the attackers begin; the server's memory in MB and the time at that moment."""
    made.others(0, 1, 2)
    made.reach(2)
    before = memory_mb(made.server.popen.pid)
    (made.start.folder / "now").touch()
    return before, time.monotonic()


class Peak:
    """The most that the server's process has ever held, in MB, looked at as long as there is one."""

    def __init__(self, made: Stage) -> None:
        self._made, self.peak = made, 0.0

    def look(self) -> None:
        """Once more."""
        with contextlib.suppress(ValueError, OSError):
            self.peak = max(self.peak, peak_memory_mb(self._made.server.popen.pid))


def ended(made: Stage, since: float, seconds: float, watch: Peak | None = None) -> tuple[bool, str]:
    """Whether the run has ended well, within `seconds`; and a word about it."""
    while made.server.popen.poll() is None and time.monotonic() - since < seconds:
        if watch:
            watch.look()
        time.sleep(0.1)
    verdict = made.verdict(0.0, equal=False)
    took = time.monotonic() - since
    if not verdict.survived:
        return False, verdict.note
    return took <= seconds, f"{took:.1f} s"


def memory(
    how: str, folder: Path, *, attackers: int = 1, size: int = 100, timeout: float = 8.0, most: float = 64.0
) -> Outcome:
    """Attackers under cids of their own, who come when the run is under way: what the server takes more, in MB."""
    flags = ("--round-timeout", timeout, "--min-available-nodes", 3, "--rest-after", 1)
    with run(folder, *flags, partitions=3 + attackers, size=size, rounds=ROUNDS) as made:
        mine = [attack(made, cid, how, "--after", made.start.folder / "now") for cid in range(3, 3 + attackers)]
        before, started = begin(made)
        for attacker in mine:
            attacker.said("attacks with")
        well, note = ended(made, started, 60.0, watch := Peak(made))
    grown = watch.peak - before
    return Outcome(well and grown <= most, f"{grown:.0f} MB more, {note}")


def drip(folder: Path) -> Outcome:
    """A chunk of a reply each 1.5 s: the round goes on when the reply's time is over, not at its time-out.

    The server's patience is 4 s and a second for each 4 MB here, that the attack may be short; else 60 s and 64 kB.
    """
    os.environ["TOY_REPLY_SECONDS"] = "4"
    try:
        with run(folder, "--min-available-nodes", 4, size=5_000_000 // 4, rounds=1) as made:
            mine = attack(made, 3, "drip")
            made.others(0, 1, 2)
            mine.said("attacks with drip")
            well, note = ended(made, time.monotonic(), 25.0)
            return Outcome(well, note)
    finally:
        del os.environ["TOY_REPLY_SECONDS"]


def malformed_in_pool(folder: Path) -> Outcome:
    """Two processes share all cids, and one answers with nonsense: the other does its work, to the same weights."""
    with run(folder, partitions=3) as made:
        started = time.monotonic()
        key = made.start.folder / "cache" / "holder.key"
        honest = made.start.python(
            SCRIPT.parents[2] / "tests/runtime/faults/toy_node.py", made.address, "0,1,2", "--shared", "--seconds", 0.1
        )
        honest.said("joined")
        spoiler = Starter(made.start.folder).python(
            SCRIPT, made.address, "0,1,2", "--shared", "--how", "malformed", "--holder-key", key
        )
        made.start.processes.append(spoiler)
        made.processes.append(honest)
        verdict = made.verdict(0.0)
        took = time.monotonic() - started
        held = verdict.survived and took < 4 * SOON and "attacks with malformed" in spoiler.out
        return Outcome(held, f"{took:.1f} s, the same weights" if held else verdict.note or f"{took:.1f} s")


def never_sent(folder: Path) -> Outcome:
    """Answers of 100 MB to messages that never were."""
    with run(folder, "--min-available-nodes", 3, rounds=ROUNDS) as made:
        mine = attack(made, 3, "unasked", "--seconds", 2, "--after", made.start.folder / "now")
        before, started = begin(made)
        well, note = ended(made, started, 60.0, watch := Peak(made))
        mine.ended(30)
        tried = int(mine.out.split("tried ")[1].split()[0])
    grown = watch.peak - before
    return Outcome(well and tried > 1 and grown <= 64, f"{grown:.0f} MB more after {tried} tries, {note}")


def steal(folder: Path) -> Outcome:
    """With --replace, from another folder, while its holder is connected and when it is away."""
    with run(folder, partitions=3, rounds=ROUNDS) as made:
        flags = ("malformed", "--replace", "--after", made.start.folder / "now")
        thieves = [attack(made, 1, *flags), attack(made, "0,1", *flags, "--shared")]
        _, started = begin(made)
        statuses = [thief.ended(30) for thief in thieves]
        verdict = made.verdict(0.0)
        told = all("--release" in thief.err for thief in thieves)
        held = verdict.survived and statuses == [2, 2] and told
        return Outcome(held, f"refused, {time.monotonic() - started:.1f} s" if held else f"{statuses} {verdict.note}")


def anothers_pool(folder: Path) -> Outcome:
    """A process with the pool's own flags and another folder."""
    with run(folder, partitions=3, rounds=ROUNDS) as made:
        node = SCRIPT.parents[2] / "tests/runtime/faults/toy_node.py"
        pool = [
            made.start.python(node, made.address, "0,1,2", "--shared", "--seconds", 0.1) for _ in range(2)
        ]  # fmt: skip
        made.processes += pool
        stranger = attack(made, "0,1,2", "malformed", "--shared", "--after", made.start.folder / "now")
        made.reach(1)
        (made.start.folder / "now").touch()
        status = stranger.ended(30)
        verdict = made.verdict(0.0)
        held = verdict.survived and status == 2 and "--release" in stranger.err
        return Outcome(held, "refused" if held else f"{status} {stranger.err} {verdict.note}")


def many_sessions(folder: Path) -> Outcome:
    """300 processes of one pool: as many as may are let in, and the rest are told so; the run goes on."""
    with run(folder, "--min-available-nodes", 3, rounds=ROUNDS) as made:
        crowd = attack(made, 3, "many", "--count", 300, "--after", made.start.folder / "now")
        before, started = begin(made)
        crowd.said("joined ")
        grown = memory_mb(made.server.popen.pid) - before
        said = crowd.out.strip().splitlines()[-1][:60]
        crowd.popen.kill()
        well, note = ended(made, started, 60.0)
    return Outcome(well and "joined 256, refused 44" in said and grown < 128, f"{grown:.0f} MB more, {said}, {note}")


Attack = Callable[[Path], Outcome]

ATTACKS: dict[str, Attack] = {
    "the last chunk of 300 MB held back, by three clients": functools.partial(memory, "large", attackers=3),
    "the last chunk of an expected 20 MB held back, by ten": functools.partial(
        memory, "hold", attackers=10, size=5_000_000, most=UNDER_WAY_MB
    ),
    "a header of 4 MB": functools.partial(memory, "text"),
    "a header of 100,000 records": functools.partial(memory, "records"),
    "answers to messages that were never sent": never_sent,
    "one message in drips": drip,
    "a malformed reply in a shared pool": malformed_in_pool,
    "a cid stolen with --replace": steal,
    "another's pool joined": anothers_pool,
    "300 sessions of one cid": many_sessions,
}
