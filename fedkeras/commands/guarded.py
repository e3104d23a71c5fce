"""A program that is not ours ends with the command that wants it.

It may start processes in sessions of their own, and watches nobody: a process of ours between the two ends them all
when it is told to, or when the command is gone.
"""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Sequence

from fedkeras import lifeline
from fedkeras.checkout import ROOT
from fedkeras.commands.process_tree import end_tree

END_SECONDS = 5.0
"""How long the program's processes have to end in order."""
_CODE = "import sys; sys.path.append(sys.argv[1]); from fedkeras.commands import guarded; sys.exit(guarded.run())"


def guarded(program: Sequence[str]) -> list[str]:
    """The command that runs `program`; it is to be started with lifeline.tied()."""
    return [sys.executable, "-P", "-c", _CODE, str(ROOT), *program]


def run() -> int:
    """Run the program and return its exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    lifeline.follow(2 * END_SECONDS)
    process = None
    try:
        process = subprocess.Popen(sys.argv[2:])
        return process.wait()
    except KeyboardInterrupt:
        return 128 + signal.SIGTERM
    finally:
        if process is not None:
            with contextlib.suppress(KeyboardInterrupt):
                end_tree(process, END_SECONDS)
