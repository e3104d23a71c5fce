"""Where a passphrase comes from: a file, the environment, or the person at the terminal; no flag, which `ps` shows.

What a process shows at the door, and what it demands: passphrase and certificates.
"""

import getpass
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from fedkeras.config import Config
from fedkeras.errors import UserError

log = logging.getLogger("fedkeras")

VARIABLE = "FEDKERAS_PASSPHRASE"
MOST_BYTES = 4096
SHORT = 12
"""Characters below which guessing one from a recorded handshake is cheap enough to warn."""


def read_passphrase(path: str) -> str | None:
    """The passphrase from `--passphrase-file`, else from the environment; None if there is neither.

    The end of the file's line does not belong to it. Raises UserError if the file cannot be read or is empty.
    """
    if not path:
        return _checked(os.environ[VARIABLE], VARIABLE) if VARIABLE in os.environ else None
    try:
        with Path(path).open("rb") as file:
            content = file.read(MOST_BYTES + 1)
            open_to_others = os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077
        text = content.decode()
    except UnicodeDecodeError:
        raise UserError(f"--passphrase-file {path} is no text in UTF-8") from None
    except OSError as error:
        raise UserError(f"cannot read --passphrase-file {path}: {error.strerror or error}") from error
    if len(content) > MOST_BYTES:
        raise UserError(f"--passphrase-file {path} is longer than {MOST_BYTES} bytes; is it the right file?")
    if open_to_others:
        log.warning("others on this machine can read %s: `chmod 600 %s`", path, path)
    return _checked(text.rstrip("\r\n"), path)


def ask_passphrase(server: str) -> str | None:
    """Ask the person at the terminal, without echo; None where there is no terminal."""
    if not (sys.stdin and sys.stdin.isatty()):
        return None
    try:
        return getpass.getpass(f"passphrase for {server}: ") or None
    except EOFError:
        return None


def _checked(text: str, where: str) -> str:
    if not text.strip():
        raise UserError(f"the passphrase in {where} is empty")
    if "\n" in text:
        raise UserError(f"{where} has more than one line; a passphrase is one")
    if len(text) < SHORT:
        log.warning("the passphrase in %s is short: 12 characters or more are hard to guess", where)
    return text


@dataclass(frozen=True)
class Access:
    """The same on both sides; paths are of PEM files, an empty one means that there is none."""

    passphrase: str | None = None
    tls_cert: str = ""
    """This side's own certificate chain; a server that has one encrypts."""
    tls_key: str = ""
    tls_ca: str = ""
    """The authority that signed the other side's certificate; a client that has one encrypts, a server that has one
    demands certificates of its clients."""
    insecure: bool = False
    """Plaintext beyond loopback is allowed."""


def access_of_server(config: Config) -> Access:
    """What the flags of server.py say. Raises UserError where the passphrase cannot be read."""
    return Access(
        read_passphrase(config.passphrase_file), config.tls_cert, config.tls_key, config.tls_client_ca, config.insecure
    )
