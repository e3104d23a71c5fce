"""`fedkeras passphrase FILE`: a new random passphrase for a server and its clients."""

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from fedkeras.checkout import program, typed
from fedkeras.errors import UserError, complain
from fedkeras.flags import parse_flags

PROG = program("passphrase")

ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""Without what looks alike on paper: i, l, o, 0, 1."""

GROUPS, LETTERS = 6, 4
"""24 of 31 characters, drawn by the operating system: 2^118 possibilities."""


@dataclass(frozen=True)
class PassphraseFlags:
    """Write a new random passphrase to FILE, for --passphrase-file of the server and of its clients.

    Only you can read the file. One that exists is never overwritten.
    """

    file: Annotated[Positional[str], arg(metavar="FILE")]
    """The new file."""


def main(args: Sequence[str]) -> int:
    """Write the file, say how it is used, and return the exit status."""
    try:
        path = Path(parse_flags(PassphraseFlags, list(args), PROG).file).expanduser()
        write(path)
    except UserError as error:
        return complain(PROG, error)
    print(f"{path} holds a new passphrase; bring the file to each client's machine by a way that you trust")
    print("server: ", typed("server", "--host", "0.0.0.0", "--passphrase-file", path))
    print("clients:", typed("client", "--cid", "N", "--server", "HOST:9080", "--passphrase-file", path.name))
    return 0


def new_passphrase() -> str:
    """Groups of letters and digits, as in 'x7km-...', that can be read out and typed."""
    return "-".join("".join(secrets.choice(ALPHABET) for _ in range(LETTERS)) for _ in range(GROUPS))


def write(path: Path) -> None:
    """Write a new passphrase to a new file that its owner alone can read. Raises UserError."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{new_passphrase()}\n")
    except FileExistsError:
        raise UserError(f"{path} exists and is left as it is: give the name of a new file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error
