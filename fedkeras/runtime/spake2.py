"""SPAKE2-P256-SHA256-HKDF-HMAC, as RFC 9382 has it: two sides with the same password agree on a key and show it.

    A -> B    pA = x*P + w*M
    B -> A    pB = y*P + w*N
    both      K = x*y*P; TT = all of these, each with its length before it; Ke || Ka = SHA-256(TT);
              KcA || KcB = HKDF(Ka, "ConfirmationKeys" || AAD)
    A <-> B   cA = HMAC(KcA, TT), cB = HMAC(KcB, TT)

Whoever does not know `w` learns from one such exchange whether one guess is right, and nothing by which others could be
tried without a further exchange. AAD is what both sides must see alike. The arithmetic is pycryptodome's; what comes
from the other side is parsed by `cryptography`, which takes points of the curve only.
"""

import hashlib
import hmac
import secrets
from functools import lru_cache
from typing import NamedTuple

from Crypto.PublicKey import ECC
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of P-256's group, which has no other subgroups: its cofactor is 1."""

SHARE_BYTES = 65
PASSWORD_BYTES = 40
"""How many bytes a password's hash has before it is reduced: 64 bits more than ORDER, so that no number is likelier."""

HASH_BYTES, KEY_BYTES = 32, 16


class InvalidShare(Exception):
    """What came from the other side is no point of the curve that it can have computed."""


class Keys(NamedTuple):
    """What both sides have when they have met: the key, and each side's confirmation."""

    session: bytes
    confirm_a: bytes
    confirm_b: bytes


class Spake2:
    """One side (A if `first`) of one exchange; `password` is a number modulo ORDER, the identities are A's and B's.

    `secret` is this exchange's own random number; only a test gives it.
    """

    def __init__(self, first: bool, password: int, identities: tuple[bytes, bytes], secret: int | None = None) -> None:
        self._first, self._password, self._identities = first, password, identities
        self._secret = 1 + secrets.randbelow(ORDER - 1) if secret is None else secret
        masks = _masks(password)
        self._own_mask, self._other_mask = masks if first else masks[::-1]
        self.share = _encoded(ECC.construct(curve="P-256", d=self._secret).pointQ + self._own_mask)
        """What this side sends the other: pA or pB."""

    def meet(self, share: bytes, aad: bytes) -> Keys:
        """The keys, when the other side's share has come. Raises InvalidShare."""
        shared = (_point(share) + -self._other_mask) * self._secret
        if shared.is_point_at_infinity():
            raise InvalidShare("a share that is nothing but the password's mask")
        shares = (self.share, share) if self._first else (share, self.share)
        return key_schedule(transcript(self._identities, shares, _encoded(shared), self._password), aad)


def transcript(identities: tuple[bytes, bytes], shares: tuple[bytes, bytes], shared: bytes, password: int) -> bytes:
    """TT: the two identities, pA and pB, K and w, each after its length."""
    parts = (*identities, *shares, shared, password.to_bytes(HASH_BYTES, "big"))
    return b"".join(len(part).to_bytes(8, "little") + part for part in parts)


def key_schedule(transcript: bytes, aad: bytes) -> Keys:
    """The session's key Ke and both confirmations, of a transcript TT."""
    digest = hashlib.sha256(transcript).digest()
    session, authentication = digest[:KEY_BYTES], digest[KEY_BYTES:]
    confirmation = HKDF(hashes.SHA256(), 2 * KEY_BYTES, salt=None, info=b"ConfirmationKeys" + aad)
    keys = confirmation.derive(authentication)
    macs = (hmac.digest(key, transcript, "sha256") for key in (keys[:KEY_BYTES], keys[KEY_BYTES:]))
    return Keys(session, *macs)


def password_number(hashed: bytes) -> int:
    """`w` of a password's hash (RFC 9382, 3.2). Raises ValueError if the hash is too short."""
    if len(hashed) < PASSWORD_BYTES:
        raise ValueError(f"a hash of {len(hashed)} bytes; at least {PASSWORD_BYTES} are needed")
    return int.from_bytes(hashed, "big") % ORDER


def _point(encoded: bytes) -> ECC.EccPoint:
    if len(encoded) != SHARE_BYTES or encoded[0] != 4:
        raise InvalidShare(f"a share of {len(encoded)} bytes")
    return _parsed(encoded)


def _parsed(encoded: bytes) -> ECC.EccPoint:
    """A point in SEC 1's encoding. Never the point at infinity, for which EccPoint would take (0, 0)."""
    try:
        numbers = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), encoded).public_numbers()
    except ValueError as error:
        raise InvalidShare("a share that is no point of the curve") from error
    return ECC.EccPoint(numbers.x, numbers.y, curve="P-256")


def _encoded(point: ECC.EccPoint) -> bytes:
    return b"\x04" + point.x.to_bytes(HASH_BYTES) + point.y.to_bytes(HASH_BYTES)


M = _parsed(bytes.fromhex("02886e2f97ace46e55ba9dd7242579f2993b64e16ef3dcab95afd497333d8fa12f"))
N = _parsed(bytes.fromhex("03d8bbd6c639c62937b04d997f38c3770719c629d7014d49a24b4f98baa1292b49"))


@lru_cache(maxsize=4)
def _masks(password: int) -> tuple[ECC.EccPoint, ECC.EccPoint]:
    """w*M and w*N: the same for all exchanges with one password."""
    return M * password, N * password
