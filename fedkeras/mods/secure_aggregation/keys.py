"""Key agreement, keys derived of it, and messages between clients that the server carries and cannot read.

X25519 (RFC 7748), HKDF with SHA-256 (RFC 5869), AES-256-GCM (NIST SP 800-38D), all of `cryptography`. A client has two
key pairs for each attempt, as in Bonawitz et al. 2017: one for messages to other clients, one for masks. The second's
private key comes from a seed of 16 bytes by HKDF, since secrets of that size are what the library shares: 128 random
bits are what X25519 is worth. (Halves of a 32 byte key, each shared for itself, would be as sound, and twice the work.)

Salt of every derivation is the digest of the attempt's terms, and its info names the purpose and the clients.
"""

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedkeras.mods.secure_aggregation.failures import ProtocolRefused

SEED = 16
"""Bytes of a shared secret: a mask key's seed, a self-mask's seed."""
KEY = 32
NONCE = 12
TAG = 16
_NAME = b"fedkeras secure aggregation "


@dataclass(frozen=True)
class PublicKeys:
    """What a client advertises, 96 bytes: two X25519 public keys and a check value of its self-mask.

    The check value comes out of the same derivation as the self-mask's key and tells nothing of it; with it the server
    sees whether the self-mask that it puts together of shares is the right one.
    """

    messages: bytes
    masks: bytes
    self_mask_check: bytes

    def to_bytes(self) -> bytes:
        """96 bytes."""
        return self.messages + self.masks + self.self_mask_check

    @classmethod
    def from_bytes(cls, data: bytes) -> "PublicKeys":
        """What `to_bytes` wrote. Raises ValueError for another length."""
        if not isinstance(data, bytes) or len(data) != 3 * KEY:
            raise ValueError(f"public keys of a secure sum have {3 * KEY} bytes")
        return cls(data[:KEY], data[KEY : 2 * KEY], data[2 * KEY :])


@dataclass(frozen=True)
class SelfMask:
    """What a self-mask's seed gives: the mask generator's key, and the check value that may be known."""

    generator_key: bytes
    check: bytes


def hkdf(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 with SHA-256."""
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(secret)


def shared_secret(private: bytes, public: bytes) -> bytes:
    """X25519 of two keys of 32 bytes each. Raises ValueError for a public key of small order."""
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))


def public_of(private: bytes) -> bytes:
    """The public key of a private one, 32 bytes each."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def mask_key(seed: bytes, digest: bytes, cid: int) -> bytes:
    """The private key for masks, of its owner's seed."""
    return hkdf(seed, digest, _info(b"mask key", cid), KEY)


def self_mask(seed: bytes, digest: bytes, cid: int) -> SelfMask:
    """What a client's self-mask is generated from."""
    derived = hkdf(seed, digest, _info(b"self-mask", cid), 2 * KEY)
    return SelfMask(derived[:KEY], derived[KEY:])


def pair_key(private: bytes, public: bytes, digest: bytes, one: int, other: int) -> bytes:
    """The mask generator's key of a pair of clients: the same from either side."""
    return hkdf(shared_secret(private, public), digest, _info(b"pairwise mask", *sorted((one, other))), KEY)


def seal(text: bytes, nonce: bytes, private: bytes, public: bytes, digest: bytes, sender: int, receiver: int) -> bytes:
    """`text` for one client alone: 28 bytes longer. `nonce` is 12 bytes, fresh for each message."""
    sealed = _cipher(private, public, digest, sender, receiver).encrypt(nonce, text, digest)
    return nonce + sealed


def unseal(sealed: bytes, private: bytes, public: bytes, digest: bytes, sender: int, receiver: int) -> bytes:
    """The text. Raises ProtocolRefused for what was changed, or is another's, or of another attempt."""
    try:
        return _cipher(private, public, digest, sender, receiver).decrypt(sealed[:NONCE], sealed[NONCE:], digest)
    except (InvalidTag, ValueError):
        raise ProtocolRefused(
            f"the shares from client {sender} were changed on their way, or are of another sum"
        ) from None


def _cipher(private: bytes, public: bytes, digest: bytes, sender: int, receiver: int) -> AESGCM:
    return AESGCM(hkdf(shared_secret(private, public), digest, _info(b"message", sender, receiver), KEY))


def _info(purpose: bytes, *cids: int) -> bytes:
    return _NAME + purpose + b" " + b"".join(cid.to_bytes(8, "big") for cid in cids)
