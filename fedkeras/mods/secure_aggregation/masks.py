"""The mask generator: AES-128 in counter mode (NIST SP 800-38A) over zeros, as integers modulo 2^32, little-endian.

Key and first counter block, 16 bytes each, both come from the derivation: with one fixed counter, a table of keys would
serve against many masks at once. With AES instructions `cryptography` makes some 9 GB/s (ChaCha20: 6), so that adding
is a good part of the cost: masks are made in blocks that stay in the processor's cache and are added in place, and a
whole mask is nowhere held.
"""

from collections.abc import Iterable

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from fedkeras.mods.secure_aggregation.keys import KEY

BLOCK = 1 << 16
"""Values in a block, 256 KiB: measured fastest with buffer, zeros and sum in a cache of 2 MiB."""
_ZEROS = bytes(4 * BLOCK)

SignedKey = tuple[bytes, bool]
"""A generator's key, and whether its mask is added (else subtracted)."""


def add_masks(vector: np.ndarray, keys: Iterable[SignedKey]) -> None:
    """Add the masks of `keys` to `vector` (uint32, contiguous), or subtract them, in place and modulo 2^32."""
    streams = [(Cipher(AES(key[:16]), CTR(key[16:KEY])).encryptor(), added) for key, added in keys]
    buffer = bytearray(4 * BLOCK)
    mask, zeros = np.frombuffer(buffer, "<u4"), memoryview(_ZEROS)
    for start in range(0, len(vector), BLOCK):
        part = vector[start : start + BLOCK]
        for stream, added in streams:
            stream.update_into(zeros[: 4 * len(part)], buffer)
            (np.add if added else np.subtract)(part, mask[: len(part)], out=part)
