"""Processes that are killed, stopped, or started where another one already is."""

import os
import signal
import time

from processes import until

from faults.stage import Stage, Verdict
from fedkeras.reports import checkpoints
from fedkeras.reports.run_folder import RunFolder


def client_killed(stage: Stage) -> Verdict:
    """In mid-training, and started again at once: it takes over what the dead one was asked."""
    stage.serve()
    victim = stage.join(0)
    stage.others(1, 2)
    stage.reach(1)
    stage.train(victim)
    started = time.monotonic()
    victim.popen.kill()
    again = stage.join(0)
    return stage.verdict(stage.recovered(started), again)


def client_stopped(stage: Stage) -> Verdict:
    """Past the round time-out, then continued: that round goes on without it, and it is there for a later one."""
    stage.rounds = 8
    stage.serve("--round-timeout", 1.5)
    client = stage.join(0)
    stage.others(1, 2)
    stage.reach(1)
    stage.train(client)
    started = time.monotonic()
    client.popen.send_signal(signal.SIGSTOP)
    try:
        seconds = stage.recovered(started)
    finally:
        client.popen.send_signal(signal.SIGCONT)
    stage.train(client)  # in a later round
    verdict = stage.verdict(seconds, client, equal=False)
    without = "no answer within 1.5 s" in (stage.run_folder / "run.log").read_text()
    return verdict if without else Verdict(False, seconds, f"nobody was missed: {stage.log()}")


def server_killed(stage: Stage, damage: bool = False) -> Verdict:
    """kill -9 in mid-round, and resumed, three times in one run; the clients wait for it."""
    stage.rounds = 8
    stage.serve()
    stage.others(0, 1, 2)
    seconds = []
    for number in (1, 3, 5):
        stage.reach(number)
        stage.train(stage.processes[1])
        os.kill(stage.server.popen.pid, signal.SIGKILL)
        stage.server.popen.wait()
        if damage:
            truncate_newest(stage)
        started = time.monotonic()
        stage.serve("--resume", stage.run_folder)
        stage.reach(number + 1)
        seconds.append(time.monotonic() - started)
    return stage.verdict(max(seconds))


def checkpoint_truncated(stage: Stage) -> Verdict:
    """The same, with the newest checkpoint cut in half each time: the one before it serves."""
    return server_killed(stage, damage=True)


def truncate_newest(stage: Stage) -> None:
    """Cut the newest checkpoint's file in half, if there is another."""
    folder = RunFolder(stage.run_folder)
    numbers = sorted(checkpoints.rounds_of(folder))
    if len(numbers) > 1:
        newest = checkpoints.path_of(folder, numbers[-1])
        os.truncate(newest, newest.stat().st_size // 2)


def two_with_one_cid(stage: Stage) -> Verdict:
    """The second is told, and ends with status 2; the run does not notice."""
    stage.serve()
    stage.others(0, 1, 2)
    stage.reach(1)
    started = time.monotonic()
    second = stage.join(1)
    status = second.ended(30)
    seconds = time.monotonic() - started
    if status != 2 or "--cid 1 is already connected" not in second.err:
        return Verdict(False, seconds, f"status {status}: {second.err}")
    return stage.verdict(seconds)


def server_gone_for_good(stage: Stage) -> Verdict:
    """Killed and not started again: the clients end with status 3 after --max-wait, with a line."""
    stage.serve()
    clients = [stage.join(cid, "--max-wait", 2) for cid in stage.cids]
    stage.reach(1)
    started = time.monotonic()
    stage.server.popen.kill()
    until(lambda: all(client.popen.poll() is not None for client in clients), "the clients' ends", 30)
    seconds = time.monotonic() - started
    good = all(client.popen.returncode == 3 and len(client.err.splitlines()) == 1 for client in clients)
    return Verdict(good, seconds, "" if good else "; ".join(client.err for client in clients))
