"""The one exception for what a user can cause and a user can mend, and how any exception is told in a line."""

import sys
import traceback


class UserError(Exception):
    """Bad input, said in one line: what is wrong and what to do. Commands print it to stderr and exit with status 2."""

    status = 2


class RunFailed(UserError):
    """A run that started and could not be finished, such as a round without enough answers. Exit status 3."""

    status = 3


def describe(error: Exception) -> str:
    """An exception in one line, with the place it came from unless it is meant for the user."""
    text = " ".join(str(error).encode(errors="replace").decode().split())
    if isinstance(error, UserError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text[:500]}{where}"


def complain(program: str, error: UserError) -> int:
    """Print `error` as one line on stderr and return the exit status."""
    text = " ".join(str(error).split())
    print(f"{program}: {text}", file=sys.stderr, flush=True)
    return error.status
