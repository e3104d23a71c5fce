"""What is left behind when a process is killed, a disk is full, or somebody else on the machine looks on."""

import contextlib
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from processes import ROOT, Process, Starter, starting, until

from benchmarks.attacks.outcome import Outcome
from fedkeras.reports.history import read_rows


def parent_killed(folder: Path) -> Outcome:
    """`kill -9` of a server with --spawn: its clients end with it, and not after a minute."""
    with starting(folder) as start:
        server, _ = start.server("--spawn", 2, "--num-partitions", 2, "--num-server-rounds", 1000)
        until(lambda: _rounds(folder / "runs") >= 1, "round 1")
        children = _children(server)
        return _killed(server, children)


def comparison_killed(folder: Path) -> Outcome:
    """The same of `fedkeras compare`: the processes that train for it end, a server and its clients among them."""
    with starting(folder) as start:
        flags = ("--arms", "fedavg", "--num-server-rounds", 1000, "--repeats", 1, "--out", folder / "comparison")
        command = start(sys.executable, "-m", "fedkeras", "compare", "digits", *flags)
        until(lambda: list((folder / "comparison").rglob("history.csv")), "an arm's first round")
        return _killed(command, _children(command))


def simulation_killed(folder: Path) -> Outcome:
    """The same of `fedkeras simulate`: neither Flower's SuperLink nor Ray's processes live on."""
    with starting(folder) as start:
        flags = ("--num-partitions", 2, "--num-server-rounds", 1000, "--run-dir", folder / "runs")
        command = start(sys.executable, "-m", "fedkeras", "simulate", *flags)
        until(lambda: _rounds(folder / "runs") >= 1, "round 1")
        return _killed(command, _children(command), within=20)


def disk_full_at_the_end(folder: Path) -> Outcome:
    """The disk fills while the last round is under way: one line, status 3, nothing torn, and --resume finishes."""
    return _on_a_full_disk(folder, fill_after=2, rounds=3)


def disk_full_in_a_round(folder: Path) -> Outcome:
    """The same in the middle of the run."""
    return _on_a_full_disk(folder, fill_after=1, rounds=30)


def passphrase_sought(folder: Path) -> Outcome:
    """Another user of the machine looks for the passphrase: in `ps`, the run's folder, logs and the app's bundle."""
    secret = "korrekt-horse-battery-staple-7319"
    path = folder / "passphrase"
    path.write_text(secret)
    path.chmod(0o600)
    with starting(folder) as start:
        flags = ("--num-partitions", 2, "--num-server-rounds", 2, "--spawn", 2, "--passphrase-file", path)
        server, _ = start.server(*flags)
        seen = ""
        while server.popen.poll() is None:
            for pid in (server.popen.pid, *_children(server)):
                with contextlib.suppress(OSError):
                    seen += Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
            time.sleep(0.05)
        assert server.popen.returncode == 0, server.err
        places = {"ps": secret in seen, "terminal": secret in server.out + server.err}
        places |= {"run folder": _holds(folder / "runs", secret), "cache": _holds(folder / "cache", secret)}
    found = [place for place, there in places.items() if there]
    return Outcome(bool(seen) and not found, f"found in {', '.join(found)}" if found else "found nowhere")


def files_read_by_others(folder: Path) -> Outcome:
    """Another user reads checkpoints, model and log of a run started with --private."""
    with starting(folder) as start:
        before = os.umask(0o022)
        try:
            server, address = start.toy_server("--num-partitions", 1, "--num-server-rounds", 2, *_NO_MODEL, "--private")
            client = _toy_node(start, address, 0)
            status = server.ended(), client.ended()
        finally:
            os.umask(before)
        assert status == (0, 0), server.err + client.err
        run = start.run_folder()
        open_to_others = [path for path in (run, *run.rglob("*")) if stat.S_IMODE(path.stat().st_mode) & 0o077]
    count = len(list(run.rglob("*")))
    return Outcome(not open_to_others, f"{len(open_to_others)} of {count} files and folders readable by others")


_NO_MODEL = ("--no-central-evaluation",)


def _toy_node(start: Starter, address: str, cid: int, seconds: float = 0.2) -> Process:
    node = ROOT / "tests" / "runtime" / "faults" / "toy_node.py"
    return start.python(node, address, cid, "--size", 20_000, "--seconds", seconds)


def _children(process: Process) -> set[int]:
    """The process's descendants that are alive."""
    from fedkeras.commands.process_tree import descendants

    return descendants([process.popen.pid]) - {process.popen.pid}


def _killed(process: Process, children: set[int], within: float = 10) -> Outcome:
    """Kill the process outright; held if its children are gone within so many seconds."""
    assert children, "no child process was seen"
    process.popen.send_signal(signal.SIGKILL)
    process.popen.wait()
    started = time.monotonic()
    while (left := [pid for pid in children if _alive(pid)]) and time.monotonic() - started < within:
        time.sleep(0.05)
    seconds = time.monotonic() - started
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    if left:
        return Outcome(False, f"{len(left)} of {len(children)} processes lived on for {within} s")
    return Outcome(True, f"{len(children)} processes ended within {seconds:.1f} s")


def _alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def _on_a_full_disk(folder: Path, fill_after: int, rounds: int) -> Outcome:
    with _small_disk(folder) as disk, starting(folder) as start:
        runs = disk / "runs"
        flags = ("--num-partitions", 1, "--num-server-rounds", rounds, "--run-dir", runs, *_NO_MODEL)
        server, address = start.toy_server(*flags)
        client = _toy_node(start, address, 0, seconds=1.0)
        until(lambda: fill_after <= _rounds(runs), f"round {fill_after}")
        stuffing = disk / "stuffing"
        with contextlib.suppress(OSError), stuffing.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 12))
        status = server.ended()
        client.ended()
        lines = [line for line in server.complaints if not line.startswith("warning: ")]
        (run,) = runs.glob("*/")
        whole = not (run / "weights.npz").exists() and not list(run.rglob("*.tmp"))
        stuffing.unlink()
        again, address = start.toy_server("--resume", run)
        other = _toy_node(start, address, 0)
        resumed = again.ended(), other.ended()
        finished = resumed == (0, 0) and _rounds(runs) == rounds
    words = f"status {status}, {len(lines)} line(s): {' / '.join(lines)[:160]}; resumed: {resumed[0]}"
    return Outcome(status == 3 and len(lines) == 1 and whole and finished, words)


def _rounds(runs: Path) -> int:
    """Rounds in the history of the only run so far."""
    found = list(runs.glob("*/history.csv"))
    return max((row["round"] for row in read_rows(found[0])), default=0) if found else 0


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    """A disk of 4 MB in memory. Raises OSError where this user may mount none."""
    place = folder / "disk"
    place.mkdir()
    if os.geteuid() != 0 or not shutil.which("mount"):
        raise OSError("only root can mount a small disk to be filled: not played")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "fedkeras-attack", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _holds(folder: Path, secret: str) -> bool:
    pattern = re.compile(re.escape(secret.encode()))
    return any(pattern.search(path.read_bytes()) for path in folder.rglob("*") if path.is_file())


ATTACKS = {
    "the parent of spawned clients is killed": parent_killed,
    "a comparison is killed": comparison_killed,
    "a simulation is killed": simulation_killed,
    "the disk is full at the end of a run": disk_full_at_the_end,
    "the disk is full in the middle of a run": disk_full_in_a_round,
    "the passphrase is sought in ps, logs and the run's folder": passphrase_sought,
    "files of a private run are read by another user": files_read_by_others,
}
