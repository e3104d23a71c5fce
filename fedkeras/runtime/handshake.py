"""The login on a new stream: both sides prove that they have the passphrase, and that nobody sits between them.

    client -> Hello      what it is, and its share
    server -> Challenge  the server's share; none if it demands no passphrase
    client -> Proof      the client's confirmation
    server -> Proof      the server's
    client -> Join       whom it serves, and its session
    server -> Welcome    the run

It is SPAKE2 (spake2.py), with scrypt (RFC 7914) of the passphrase as the password, and the SHA-256 of the server's
certificate, as each side sees it, as what both must see alike: who stands between two TLS connections of his own shows
the client another certificate, and neither side's confirmation fits. Without TLS (`--insecure`) nothing is bound to the
login, and what is sent after it is not protected.

scrypt's salt and parameters are part of the protocol, and nobody's choice: with SPAKE2 they are no help against
guessing, which takes one login a guess; they keep a number from being the passphrase where it is remembered. The client
confirms first, so that a stranger gets nothing that was computed from the passphrase but a share, which says nothing.
"""

import hashlib
import hmac
import unicodedata
from functools import lru_cache

from fedkeras.runtime.spake2 import PASSWORD_BYTES, Spake2, password_number

IDENTITIES = (b"fedkeras client, protocol 6", b"fedkeras server, protocol 6")
SALT = b"fedkeras passphrase, protocol 6"
TICKET_NAME = 8
"""Bytes of a session's name by which a ticket is found; the others are its secret."""

SCRYPT_N, SCRYPT_R, SCRYPT_P = 1 << 15, 8, 1
"""Some 0.1 s and 32 MB, once a process."""


@lru_cache(maxsize=4)
def password_of(passphrase: str) -> int:
    """The number that stands for a passphrase; the same text in any Unicode spelling gives the same."""
    text = unicodedata.normalize("NFC", passphrase).encode()
    hashed = hashlib.scrypt(
        text, salt=SALT, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, dklen=PASSWORD_BYTES, maxmem=256 * SCRYPT_N * SCRYPT_R
    )
    return password_number(hashed)


class Login:
    """One side of one login; `certificate` is the server's as this side sees it (DER), empty without TLS."""

    def __init__(self, passphrase: str, certificate: bytes, client: bool) -> None:
        self._client = client
        self._side = Spake2(client, password_of(passphrase), IDENTITIES)
        self._seen = hashlib.sha256(certificate).digest() if certificate else b""
        self.own = self._expected = b""
        self.share = self._side.share

    def meet(self, share: bytes) -> bytes:
        """This side's confirmation, when the other's share has come. Raises InvalidShare."""
        keys = self._side.meet(share, self._seen)
        self.own, self._expected = (keys.confirm_a, keys.confirm_b)[:: 1 if self._client else -1]
        return self.own

    def accepts(self, mac: bytes) -> bool:
        """True if this is the other side's confirmation, so that it has the passphrase; compared in constant time."""
        return bool(self._expected) and hmac.compare_digest(mac, self._expected)


def ticket(session: bytes, share: bytes) -> bytes:
    """What a client that comes back puts into its Hello: it shows that the client has this session, and only to a
    server that has it too; for one login, whose share it names.

    It is no proof of the passphrase. Who has a session does not wait while strangers guess (guesses.py).
    """
    return session[:TICKET_NAME] + hmac.digest(session, share, "sha256") if session else b""


class Authenticator:
    """Makes the server's side of each login, or none where anybody may join."""

    def __init__(self, passphrase: str | None, certificate: bytes = b"") -> None:
        self._passphrase, self._certificate = passphrase, certificate
        if passphrase is not None:
            password_of(passphrase)  # takes its time before the first client comes

    def login(self) -> Login | None:
        """A new one for each stream; None if no passphrase is demanded."""
        return None if self._passphrase is None else Login(self._passphrase, self._certificate, client=False)
