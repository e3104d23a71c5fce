"""One server at a time writes into a run folder."""

import contextlib
from collections.abc import Iterator

from fedkeras.errors import UserError
from fedkeras.reports.folder import RunFolder

try:
    import fcntl
except ImportError:  # Windows: nobody watches
    fcntl = None


@contextlib.contextmanager
def held(folder: RunFolder) -> Iterator[None]:
    """Keep others out meanwhile; the operating system lets go when the process ends, however it ends.

    Raises UserError if another server is at it.
    """
    try:
        file = folder.lock_path.open("ab")
    except OSError as error:
        raise UserError(f"cannot write into {folder.path}: {error.strerror or error}") from error
    with file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"another server is writing to {folder.path}; stop it first") from None
            except OSError:
                pass  # a network disk that knows no locks
        yield


def is_held(folder: RunFolder) -> bool:
    """True if a server is writing into the folder now. False too where the machine knows no such locks."""
    try:
        with folder.lock_path.open("rb") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
