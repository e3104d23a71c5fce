"""A SuperNode of Flower's with a resident executor beside it: two processes, and the loop that keeps them together.

This process claims the SuperNode's tasks and gives them to the executor. Each run has an executor of its own, started
anew when a task of another run comes, so that no run finds another's model, data or modules in the process.

What ends, and what becomes of the rest:

    the SuperNode     the executor is ended, and this command says how it ended
    the executor      the message it worked on is answered with an error, at once and not after Flower's minute; a new
                      one starts
    this command      both others end with it (fedkeras.lifeline)
"""

import contextlib
import importlib.metadata
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fedkeras import lifeline
from fedkeras.errors import RunFailed, one_line
from fedkeras.flower.runtime_api import ApiAddress, ClaimedTask, TaskClaim, TaskLost, TaskQueue
from fedkeras.runtime.executor_process import ExecutorProcess, how_it_ended

PROGRAM = "flower-supernode"
POLL_SECONDS = 0.1
"""How often the SuperNode is asked for a task while messages come, and how often both processes are looked at."""
QUIET_POLL_SECONDS, QUIET_AFTER_SECONDS = 0.5, 60.0
"""How often it is asked when none has come for so long: Flower's own executor asks once a second."""
PATIENCE_SECONDS = 30.0
"""After so long without an answer of the SuperNode's, why is said: it takes some seconds to start."""
END_SECONDS = 10.0
"""How long the SuperNode may take to say goodbye to its SuperLink."""
LAST_ANSWER_SECONDS = 1.5
"""How long it has to pass on an error for the message that was worked on: it looks for answers every half second."""
MOST_ENDS = 3
"""So many executors in a row may end without having begun with a message; the next would too."""


@dataclass(frozen=True)
class Commands:
    """How the two processes are started, as words of a command line without any secret."""

    supernode: Sequence[str]
    """flower-supernode with its flags, but those that `running` adds."""
    executor: Sequence[str]
    """The process that calls executor.serve."""


class WarmSuperNode:
    """The loop. `say` prints one line for whoever watches the terminal."""

    def __init__(
        self, supernode: "subprocess.Popen[bytes]", queue: TaskQueue, endpoint: ApiAddress, commands: Commands,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._supernode, self._queue, self._endpoint = supernode, queue, endpoint
        self._commands, self._say = commands, say
        self._executor = ExecutorProcess(commands.executor)
        self._ends = 0
        self._last_task = time.monotonic()
        self._next_claim = 0.0
        self._last_heard, self._said = time.monotonic(), False

    def serve(self) -> None:
        """Until the SuperNode ends. Raises RunFailed with how, and for executors that cannot be kept alive."""
        while (status := self._supernode.poll()) is None:
            self._look_after_executor()
            if self._executor.is_free and time.monotonic() >= self._next_claim:
                self._claim()
            if self._executor.head:
                self._ends = 0
            time.sleep(POLL_SECONDS)
        raise RunFailed(f"{PROGRAM} {how_it_ended(status)}; what it said of it stands above")

    def end(self) -> None:
        """End the executor; what it worked on is answered, as long as the SuperNode is there to pass it on."""
        self._executor.end()
        self._executor.status()
        if self._supernode.poll() is None and self._executor.claim is not None:
            self._answer_for_executor("the SuperNode was ended while it trained")
            time.sleep(LAST_ANSWER_SECONDS)

    def _claim(self) -> None:
        quiet = time.monotonic() - self._last_task > QUIET_AFTER_SECONDS
        self._next_claim = time.monotonic() + (QUIET_POLL_SECONDS if quiet else 0.0)
        try:
            claim = self._queue.claim()
        except TaskLost as lost:  # it is starting, or ending, which is seen by its process
            if not self._said and time.monotonic() - self._last_heard > PATIENCE_SECONDS:
                self._said = True
                self._say(f"no messages are had from {PROGRAM} since {PATIENCE_SECONDS:g} s: {one_line(str(lost))}")
            return
        self._last_heard, self._said = time.monotonic(), False
        if claim is not None:
            self._last_task = time.monotonic()
            self._executor_for(claim).give(claim)

    def _executor_for(self, claim: TaskClaim) -> ExecutorProcess:
        """The executor, started anew if it has worked for another run."""
        if self._executor.run_id not in (None, claim.run_id):
            self._executor.end()
            self._executor = ExecutorProcess(self._commands.executor)
        return self._executor

    def _look_after_executor(self) -> None:
        status = self._executor.status()
        if status is None:
            return
        how, claim = f"executor {how_it_ended(status)}", self._executor.claim
        if claim is not None and self._executor.has_begun:
            self._answer_for_executor(f"this SuperNode's {how} while it worked on the message")
            self._say(f"the {how}; the message it worked on is answered with that, and a new one starts")
            claim = None
        else:
            self._ends += 1
            if self._ends >= MOST_ENDS:
                raise RunFailed(f"the {how}, as {self._ends - 1} before it, with nothing done; why stands above")
            self._say(f"the {how}; a new one starts")
        self._executor = ExecutorProcess(self._commands.executor)
        if claim is not None:
            self._executor.give(claim)

    def _answer_for_executor(self, reason: str) -> None:
        """An error reply to what the executor worked on."""
        try:
            with ClaimedTask(self._endpoint, self._executor.claim.token) as task:
                task.fail(self._executor.head, reason)
        except TaskLost as lost:
            self._say(f"the message could not be answered: {one_line(str(lost))}")


@contextlib.contextmanager
def running(endpoint: ApiAddress, commands: Commands, say: Callable[[str], None]) -> Iterator[WarmSuperNode]:
    """Both processes, until the block is left, however it is left.

    The SuperNode gets a secret through a pipe, so that nobody else on the machine can take its tasks.
    """
    secret = secrets.token_bytes(32)
    reading, writing = os.pipe()
    os.write(writing, secret)
    os.close(writing)
    flags = ["--isolation", "process", "--superexec-auth-secret-file", f"/dev/fd/{reading}"]
    tied = lifeline.tied()
    tied["pass_fds"] = (*tied["pass_fds"], reading)
    try:
        supernode = subprocess.Popen(
            [*commands.supernode, *flags], stdin=subprocess.DEVNULL, start_new_session=True, **tied
        )
    finally:
        os.close(reading)
    warm = None
    try:
        warm = WarmSuperNode(supernode, TaskQueue(endpoint, secret), endpoint, commands, say)
        yield warm
    finally:
        with _undisturbed():
            if warm is not None:
                warm.end()
            _end(supernode)


def run_supernode() -> None:
    """The SuperNode's process: Flower's own program, which ends with the command that has started it."""
    lifeline.follow(END_SECONDS)
    (script,) = importlib.metadata.entry_points(group="console_scripts", name=PROGRAM)
    sys.argv[0] = PROGRAM
    sys.exit(script.load()())


def free_port(host: str) -> int:
    """A port that nobody listens on."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as one:
        one.bind((host, 0))
        return one.getsockname()[1]


def is_taken(host: str, port: int) -> bool:
    """Whether somebody listens there already."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as one:
        one.settimeout(1.0)
        return one.connect_ex((host, port)) == 0


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C while both are being ended would leave one of them."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
