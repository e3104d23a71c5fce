"""The loop that keeps a SuperNode and its executor together: whichever ends, and whatever the executor was doing."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from runtime.supernode_api import SECRET, SuperNodeApi, bundle, supernode_api, until

from fedkeras.commands.process_tree import descendants
from fedkeras.errors import RunFailed
from fedkeras.flower.runtime_api import TaskQueue
from fedkeras.runtime import warm_supernode
from fedkeras.runtime.warm_supernode import Commands, WarmSuperNode

TESTS = Path(__file__).resolve().parents[1]
TOY = [sys.executable, str(TESTS / "runtime" / "toy_executor.py")]
SOON = 15.0
"""Seconds in which what is said to happen at once must happen on any machine."""


@pytest.fixture(scope="module")
def api() -> Iterator[SuperNodeApi]:
    """A SuperNode's API that knows runs 1 to 9."""
    with supernode_api() as started:
        for run_id in range(1, 10):
            started.add_run(run_id, bundle())
        yield started


class StandIn(subprocess.Popen):
    """In the place of flower-supernode's process; `interrupt` is a Ctrl-C for whoever looks after it."""

    interrupt = False

    def poll(self) -> int | None:
        """Its exit status, or the Ctrl-C, once."""
        if self.interrupt:
            self.interrupt = False
            raise KeyboardInterrupt
        return super().poll()


class Running:
    """A WarmSuperNode in a thread. The SuperNode's process is a stand-in, since its API is in this one."""

    def __init__(self, api: SuperNodeApi, executor: list[str] | None = None, secret: bytes = SECRET) -> None:
        self.said: list[str] = []
        self.failed: RunFailed | None = None
        self.supernode = StandIn([sys.executable, "-c", "import time; time.sleep(600)"])
        commands = Commands([], executor or [*TOY, api.endpoint.address, ""])
        queue = TaskQueue(api.endpoint, secret)
        self.warm = WarmSuperNode(self.supernode, queue, api.endpoint, commands, self.said.append)
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        try:
            self.warm.serve()
        except RunFailed as failed:
            self.failed = failed
        except KeyboardInterrupt:
            pass
        finally:
            self.warm.end()

    def end(self) -> None:
        """End the SuperNode, and with it all else."""
        self.supernode.kill()
        self.supernode.wait()
        self.thread.join(SOON)
        assert not self.thread.is_alive()


@pytest.fixture
def running(api: SuperNodeApi) -> Iterator[Running]:
    """One with the toy executor."""
    one = Running(api)
    yield one
    one.end()


def pid_of(api: SuperNodeApi, run_id: int, number: int) -> int:
    """Which process answers a message of this run."""
    message = api.message(run_id, number=number)
    api.send(message)
    return api.wait_for_reply(message).content["config"]["pid"]


def at_work(running: Running) -> bool:
    executor = running.warm._executor
    return bool(executor.claim and executor.head)


def alive(pid: int) -> bool:
    return bool(descendants([pid]))


def test_one_process_answers_a_run_and_another_the_next(api: SuperNodeApi, running: Running) -> None:
    """Broken if a run finds another's model in the process, or if each message starts one, as Flower does."""
    first, second = pid_of(api, 1, 0), pid_of(api, 1, 1)
    assert first == second
    other = pid_of(api, 2, 0)
    assert other != first and not alive(first)
    running.end()
    assert str(running.failed).startswith("flower-supernode was ended by SIGKILL")
    assert not alive(other)


def test_an_executor_that_is_killed_is_answered_for_at_once(api: SuperNodeApi, running: Running) -> None:
    first = pid_of(api, 3, 0)
    until(lambda: running.warm._executor.is_free, "the end of its work")
    message = api.message(3, seconds=600)
    api.send(message)
    until(lambda: at_work(running), "the work")
    tokens = {record.token for record in api.state.task_token_store.values()}
    for pid in (first, running.supernode.pid):  # whoever may list processes sees no token
        words = (Path("/proc") / str(pid) / "cmdline").read_text() if Path("/proc").exists() else ""
        assert not any(token in words for token in tokens)
    killed = time.monotonic()
    os.kill(first, signal.SIGKILL)
    reason = api.wait_for_reply(message).error.reason
    assert time.monotonic() - killed < SOON
    assert reason == "this SuperNode's executor was ended by SIGKILL while it worked on the message"
    assert pid_of(api, 3, 1) != first
    assert running.said == [
        "the executor was ended by SIGKILL; the message it worked on is answered with that, and a new one starts"
    ]


def test_an_app_that_ends_its_process_costs_its_own_message(api: SuperNodeApi, running: Running) -> None:
    for number in range(2):
        message = api.message(4, do="exit", number=number)
        api.send(message)
        assert "executor ended with status 7" in api.wait_for_reply(message).error.reason
    assert pid_of(api, 4, 0)


def test_an_executor_that_is_killed_while_it_waits_is_replaced(api: SuperNodeApi, running: Running) -> None:
    first = pid_of(api, 5, 0)
    until(lambda: running.warm._executor.is_free, "the end of its work")
    os.kill(first, signal.SIGKILL)
    assert pid_of(api, 5, 1) != first  # which it may have been given before anybody saw that it was dead
    assert running.said == ["the executor was ended by SIGKILL; a new one starts"]


def test_executors_that_cannot_live_end_the_supernode_with_a_line(api: SuperNodeApi) -> None:
    broken = Running(api, [sys.executable, "-c", "raise SystemExit(3)"])
    broken.thread.join(SOON)
    assert str(broken.failed).startswith("the executor ended with status 3, as 2 before it, with nothing done")
    broken.end()


def test_a_supernode_that_gives_nothing_is_said(api: SuperNodeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """With certificates that do not fit, for instance: else the command would wait without a word."""
    monkeypatch.setattr(warm_supernode, "PATIENCE_SECONDS", 0.5)
    wrong = Running(api, secret=b"another")
    until(lambda: wrong.said, "a line")
    time.sleep(1.0)
    wrong.end()
    assert len(wrong.said) == 1
    assert wrong.said[0].startswith("no messages are had from flower-supernode since 0.5 s: the SuperNode answers 401")


def test_what_is_being_worked_on_when_all_is_ended_is_answered(api: SuperNodeApi, running: Running) -> None:
    """So that the server does not wait for it until its round is over."""
    message = api.message(6, seconds=600)
    api.send(message)
    until(lambda: at_work(running), "the work")
    running.supernode.interrupt = True
    assert api.wait_for_reply(message).error.reason == "the SuperNode was ended while it trained"
