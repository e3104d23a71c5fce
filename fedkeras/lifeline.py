"""A process that a command has started ends when the command is gone, however it ended: `kill -9` too.

The command holds the writing end of a pipe, its processes the reading end. When the command's process ends, so does the
pipe, which its processes see. Where file descriptors cannot be handed on (Windows), there is none, and what a killed
command leaves behind ends by its own time-outs.
"""

import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Mapping

NAME = "FEDKERAS_LIFELINE"
"""The environment variable that says which descriptor is the pipe's reading end."""
GRACE_SECONDS = 5.0
"""How long a process may take to end in order, once its command is gone."""


def tied(environment: Mapping[str, str] | None = None) -> dict[str, object]:
    """Arguments of subprocess.Popen for a process that shall end with this one; `environment` is os.environ, unset."""
    environment = dict(os.environ if environment is None else environment)
    if os.name == "nt":
        return {"env": environment}
    reading, _ = _pipe()
    return {"env": {**environment, NAME: str(reading)}, "pass_fds": (reading,)}


def follow(grace: float = GRACE_SECONDS) -> None:
    """Called first in such a process: end it when the one that has started it is gone. Otherwise nothing happens.

    It is ended as by SIGTERM, so that it says goodbye; after `grace` seconds it is ended at once.
    """
    given = os.environ.pop(NAME, "")  # what this process starts in its turn has no such descriptor
    if given.isdecimal():
        threading.Thread(target=_end_with, args=(int(given), grace), name="fedkeras-lifeline", daemon=True).start()


@functools.cache
def _pipe() -> tuple[int, int]:
    """One pipe for all processes of this one, held as long as it lives. Python hands neither end on unasked."""
    return os.pipe()


def _end_with(reading: int, grace: float) -> None:
    with contextlib.suppress(OSError):  # it was not handed on after all
        if os.read(reading, 1) == b"":
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(grace)
            os._exit(128 + signal.SIGTERM)
