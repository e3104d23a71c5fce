"""The one exception for what a user can cause and a user can mend."""

import sys


class UserError(Exception):
    """Bad input, said in one line: what is wrong and what to do. Commands print it to stderr and exit with status 2."""

    status = 2


class RunFailed(UserError):
    """A run that started and could not be finished, such as a round without enough answers. Exit status 3."""

    status = 3


def complain(program: str, error: UserError) -> int:
    """Print `error` as one line on stderr and return the exit status."""
    text = " ".join(str(error).split())
    print(f"{program}: {text}", file=sys.stderr, flush=True)
    return error.status
