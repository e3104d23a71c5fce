"""The handshake of a new stream: both sides prove that they have the passphrase, which itself never travels.

    client -> Hello      what it is, and a nonce
    server -> Challenge  its own nonce, and scrypt's salt and parameters
    client -> Proof      HMAC-SHA256(key, "node", all of the above)
    server -> Welcome    HMAC-SHA256(key, "server", all of the above)

The key is scrypt(passphrase) (RFC 7914), HMAC is that of RFC 2104. The nonces make a recorded handshake worthless, and
the role in the text ("node" is the client's) makes one side's proof worthless to the other. The client proves itself
first, so that a stranger gets nothing that was computed from the passphrase. Without TLS, an eavesdropper can try
passphrases on a recorded handshake, at the cost of one scrypt each.
"""

import hashlib
import hmac
import json
import os
import unicodedata
from functools import lru_cache

from fedkeras.errors import UserError
from fedkeras.runtime.federation_pb2 import Challenge, Hello

NONCE_BYTES = 32
SCRYPT_N, SCRYPT_R, SCRYPT_P = 1 << 15, 8, 1
"""Some 0.1 s and 32 MB for each guess; a server derives its key once."""

MAX_N, MAX_R, MAX_P = 1 << 17, 16, 4
"""What a client agrees to: a false server must not make it compute for hours, or make guessing cheaper."""

NODE, SERVER = "node", "server"


def new_nonce() -> bytes:
    """Random bytes that are used once."""
    return os.urandom(NONCE_BYTES)


@lru_cache(maxsize=4)
def derive(passphrase: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    """The key that stands for a passphrase; the same text in any Unicode spelling gives the same key."""
    text = unicodedata.normalize("NFC", passphrase).encode()
    return hashlib.scrypt(text, salt=salt, n=n, r=r, p=p, dklen=32, maxmem=256 * n * r)


def key_for(challenge: Challenge, passphrase: str) -> bytes:
    """A client's key for this server. Raises UserError if the server demands parameters that no honest server does."""
    n, r, p = challenge.scrypt_n, challenge.scrypt_r, challenge.scrypt_p
    fair = SCRYPT_N <= n <= MAX_N and not n & (n - 1) and SCRYPT_R <= r <= MAX_R and SCRYPT_P <= p <= MAX_P
    if not fair or not 16 <= len(challenge.salt) <= 64 or len(challenge.nonce) != NONCE_BYTES:
        raise UserError(
            f"the server's challenge is out of bounds (scrypt n={n}, r={r}, p={p}); this client does not answer it"
        )
    return derive(passphrase, challenge.salt, n, r, p)


def proof(key: bytes, role: str, hello: Hello, challenge: Challenge) -> bytes:
    """What `role` (NODE or SERVER) shows of the key, for this one handshake."""
    fields = [
        role, hello.protocol, hello.version, list(hello.cids), hello.shared, hello.replace, hello.session.hex(),
        list(hello.held), hello.nonce.hex(), challenge.nonce.hex(), challenge.salt.hex(), challenge.scrypt_n,
        challenge.scrypt_r, challenge.scrypt_p,
    ]  # fmt: skip
    return hmac.digest(key, json.dumps(fields).encode(), "sha256")


def proves(mac: bytes, key: bytes, role: str, hello: Hello, challenge: Challenge) -> bool:
    """True if `mac` is that proof; compared in constant time."""
    return hmac.compare_digest(mac, proof(key, role, hello, challenge))


class Authenticator:
    """Checks clients' proofs: one salt and one key for as long as the server runs, or none where anybody may join."""

    def __init__(self, passphrase: str | None) -> None:
        self._salt = os.urandom(16) if passphrase is not None else b""
        self._key = derive(passphrase, self._salt, SCRYPT_N, SCRYPT_R, SCRYPT_P) if passphrase is not None else None

    def challenge(self) -> Challenge:
        """A new one for each stream."""
        if self._key is None:
            return Challenge(nonce=new_nonce())
        return Challenge(
            nonce=new_nonce(), salt=self._salt, scrypt_n=SCRYPT_N, scrypt_r=SCRYPT_R, scrypt_p=SCRYPT_P
        )  # fmt: skip

    def accepts(self, mac: bytes, hello: Hello, challenge: Challenge) -> bool:
        """True if the client knows the passphrase, or need not."""
        return self._key is None or (
            len(hello.nonce) == NONCE_BYTES and proves(mac, self._key, NODE, hello, challenge)
        )  # fmt: skip

    def server_proof(self, hello: Hello, challenge: Challenge) -> bytes:
        """The server's own proof, for a client that has given its proof; empty without a passphrase."""
        return b"" if self._key is None else proof(self._key, SERVER, hello, challenge)
