"""The key by which a client that is started again shows that it is the one that was there before.

It lies in a file of the client's own folder, is made at the first start, and never leaves the machine: what a server is
sent is made of it for one run, so that no server learns what another one is shown.
"""

import hmac
import logging
import os
import time
from pathlib import Path

from fedkeras.errors import UserError

log = logging.getLogger("fedkeras")

VARIABLE = "FEDKERAS_HOLDER_KEY"
"""The environment variable with a key in hexadecimal digits: a server gives its own clients (`--spawn`) one."""

NAME = "holder.key"
KEY_BYTES = 32
WHOLE_SECONDS = 2.0
"""How long a file that another process is just making may be incomplete."""


def read_key(path: str, folder: Path) -> bytes:
    """The key of this client: from the environment, from the file `path`, or if that is "" from the one in `folder`.

    A file that is not there is made, readable for its owner alone. Where the folder cannot be written, the key lasts as
    long as this process. Raises UserError for a file that is no key.
    """
    if VARIABLE in os.environ:
        return _key(os.environ[VARIABLE], VARIABLE)
    file = Path(path).expanduser() if path else folder / NAME
    try:
        return _read(file)
    except FileNotFoundError:
        pass
    except OSError as error:
        if path:
            raise UserError(f"cannot read --holder-key {file}: {error.strerror or error}") from error
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _make(file)
        return _read(file)
    except OSError as error:
        if path:
            raise UserError(f"cannot write --holder-key {file}: {error.strerror or error}") from error
        log.warning(
            "cannot write %s (%s): if this client is started again, the server takes it for another one",
            file,
            error.strerror or error,
        )
        return os.urandom(KEY_BYTES)


def secret_for(key: bytes, run: bytes) -> bytes:
    """What is shown in the run that goes by this name: HMAC-SHA256 of it under the key."""
    return hmac.digest(key, b"fedkeras holder\0" + run, "sha256")


def _make(file: Path) -> None:
    """Write a new key, unless another process has just done so."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        descriptor = os.open(file, flags, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as made:
        made.write(f"{os.urandom(KEY_BYTES).hex()}\n")


def _read(file: Path) -> bytes:
    deadline = time.monotonic() + WHOLE_SECONDS
    while len(text := file.read_text(errors="replace")) < 2 * KEY_BYTES and time.monotonic() < deadline:
        time.sleep(0.02)
    if os.name == "posix" and file.stat().st_mode & 0o077:
        log.warning("others on this machine can read %s: `chmod 600 %s`", file, file)
    return _key(text, str(file))


def _key(text: str, where: str) -> bytes:
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise UserError(f"{where} is no holder key: it has {2 * KEY_BYTES} hexadecimal digits")
    return key
