"""TensorFlow greets in six lines of C++ log that no setting turns off: they are held back while it is imported."""

import contextlib
import logging
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what TensorFlow's C++ says later; its errors are exceptions

_GREETING = re.compile(rb"(WARNING: All log messages before absl|[IW]\d{4} [\d:.]+ +\d+ )")

_importing = threading.Lock()
"""TensorFlow breaks if two threads import it at once, and a module stands in sys.modules before it is complete."""


def import_tensorflow() -> None:
    """Import TensorFlow. What else C++ writes to stderr meanwhile is passed on afterwards; Python's is never held."""
    with _importing:
        if "tensorflow" not in sys.modules:
            with _without_greeting():
                import tensorflow  # noqa: F401


@contextlib.contextmanager
def _without_greeting() -> Iterator[None]:
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held, _python_writes_to(stderr):
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            for line in held:
                if not _GREETING.match(line):
                    os.write(2, line)


@contextlib.contextmanager
def _python_writes_to(descriptor: int) -> Iterator[None]:
    """Keep Python's stderr out of what is held: a process that ends during the import has its last words to say."""
    before = sys.stderr
    if before is not sys.__stderr__:  # a notebook's or a test's, which does not write to descriptor 2
        yield
        return
    sys.stderr = open(os.dup(descriptor), "w", buffering=1, errors="backslashreplace")  # noqa: SIM115, PTH123
    try:
        yield
    finally:
        for handler in logging.getLogger("tensorflow").handlers:  # which took the stderr that it found
            if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
                handler.setStream(before)
        sys.stderr.close()
        sys.stderr = before
