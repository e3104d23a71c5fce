"""Output that goes away ends nothing: `| head`, a closed terminal, a full disk behind stdout.

A run is worth more than its lines, and they are in its folder too. What cannot be written is dropped from then on.
"""

import contextlib
import errno
import os
import signal
import sys
from typing import TextIO


class _Outlet:
    """A text stream that is let go where it refuses; all else is the stream's own."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name = stream, name

    def write(self, text: str) -> int:
        """Write, or drop it."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._let_go(error)
            return len(text)

    def flush(self) -> None:
        """Flush, or drop what is waiting."""
        try:
            self._stream.flush()
        except OSError as error:
            self._let_go(error)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def _let_go(self, error: OSError) -> None:
        """From now on into the void, what the stream still holds too: Python flushes it once more at its end."""
        with contextlib.suppress(OSError, ValueError):  # a stream that is no file
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        # A reader that has seen enough, and a terminal that was closed, need no word, and there is nobody to read it.
        if self._name == "stdout" and error.errno not in (errno.EPIPE, errno.EIO):
            print(f"warning: stdout takes no more lines: {error.strerror or error}", file=sys.stderr, flush=True)


def outlast() -> None:
    """Called first by a command: neither its output's end nor its terminal's is its own."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _Outlet):
            setattr(sys, name, _Outlet(stream, name))
    with contextlib.suppress(AttributeError, ValueError):  # Windows has no such signal; another thread may set none
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
