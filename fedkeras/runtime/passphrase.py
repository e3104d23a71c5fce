"""What a process authenticates itself with, and demands of the other side: a passphrase and certificates.

A passphrase comes from a file, the environment, or the person at the terminal; there is no flag for it, which `ps`
would show.
"""

import codecs
import getpass
import logging
import os
import sys
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from fedkeras.config import Config
from fedkeras.errors import UserError

log = logging.getLogger("fedkeras")

VARIABLE = "FEDKERAS_PASSPHRASE"
MAX_BYTES = 4096
SHORT = 12
"""Characters below which one may be guessed in time: a server that others can reach takes none that is shorter."""


def read_passphrase(path: str) -> str | None:
    """The passphrase from `--passphrase-file`, else from the environment; None if there is neither.

    The file is UTF-8, or UTF-16 as Windows writes it; a letter counts as one
    however it is composed; the end of the line, and spaces around the passphrase, do not belong to it. Raises UserError
    if the file cannot be read or is empty.
    """
    if not path:
        return _checked(os.environ[VARIABLE], VARIABLE) if VARIABLE in os.environ else None
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
            open_to_others = os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077
        utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if utf_16 else "utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"--passphrase-file {path} is no text in UTF-8") from None
    except OSError as error:
        raise UserError(f"cannot read --passphrase-file {path}: {error.strerror or error}") from error
    if len(content) > MAX_BYTES:
        raise UserError(f"--passphrase-file {path} is longer than {MAX_BYTES} bytes; is it the right file?")
    if open_to_others:
        log.warning("others on this machine can read %s: `chmod 600 %s`", path, path)
    return _checked(text, path)


def ask_passphrase(server: str) -> str | None:
    """Let the person at the terminal type it, without echo; None where there is no terminal."""
    if not (sys.stdin and sys.stdin.isatty()):
        return None
    try:
        return normalised(getpass.getpass(f"passphrase for {server}: ")) or None
    except EOFError:
        return None


def normalised(text: str) -> str:
    """One passphrase for all ways to write its letters down, and without spaces around it (`echo` leaves one)."""
    return unicodedata.normalize("NFC", text).strip()


def _checked(text: str, where: str) -> str:
    text = normalised(text)
    if not text:
        raise UserError(f"the passphrase in {where} is empty")
    if "\0" in text:
        raise UserError(f"{where} is no text in UTF-8: UTF-16 needs its mark at the beginning of the file")
    if len(text.splitlines()) > 1:
        raise UserError(f"{where} has more than one line; a passphrase is one")
    if len(text) < SHORT:
        log.warning("the passphrase in %s is short: 12 characters or more are hard to guess", where)
    return text


@dataclass(frozen=True)
class Access:
    """One side's passphrase and certificates. Paths are those of PEM files, "" where there is none."""

    passphrase: str | None = field(default=None, repr=False)
    tls_cert: str = ""
    """This side's own certificate chain."""
    tls_key: str = ""
    tls_ca: str = ""
    """The authority that signed the other side's certificate; a server that has one demands one of each client."""
    insecure: bool = False
    """Plaintext where there are no certificates; a server may take anybody from anywhere."""


class NeedsPassphrase(UserError):
    """The server demands one and this client has none. `asked`: it said so; else it encrypts, and that is why."""

    def __init__(self, server: str, asked: bool = False) -> None:
        why = "" if asked else "encrypts, so it "
        other = "" if asked else "; or, if an authority signed its certificate, that authority with --tls-ca"
        give = f"--passphrase-file or set {VARIABLE}"
        super().__init__(f"the server at {server} {why}demands a passphrase: give {give}{other}")


def access_of_server(config: Config) -> Access:
    """From the flags of server.py. Raises UserError if the passphrase cannot be read."""
    return Access(
        read_passphrase(config.passphrase_file), config.tls_cert, config.tls_key, config.tls_client_ca, config.insecure
    )
