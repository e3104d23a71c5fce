"""A secret of 16 bytes in shares of 16 bytes, any `threshold` of which give it back and fewer tell nothing.

Shamir: How to Share a Secret, CACM 1979; over GF(2^128), by `pycryptodome` (which draws the polynomial itself, from the
operating system). It interpolates in plain Python: 1 ms for 5 shares, some 12 ms for 20, 30 ms for 34.
"""

from collections.abc import Callable, Mapping, Sequence

from Crypto.Protocol.SecretSharing import Shamir


def split(secret: bytes, holders: Sequence[int], threshold: int) -> dict[int, bytes]:
    """A share for each holder; the first holds share 1, the next 2, and so on."""
    shares = Shamir.split(threshold, len(holders), secret)
    return {holder: share for holder, (_, share) in zip(holders, shares, strict=True)}


def join(
    shares: Mapping[int, bytes], holders: Sequence[int], threshold: int, right: Callable[[bytes], bool]
) -> bytes | None:
    """The secret of which `right` is true, of holders' shares; None where there are too few or too many are wrong.

    One set of `threshold` shares does where all are right. Where it does not, sets that leave out others are tried,
    each of `threshold` in a row: they get round one wrong share always if one more is there, and round several often.
    """
    index = {holder: place for place, holder in enumerate(holders, start=1)}
    given = [(index[holder], share) for holder, share in sorted(shares.items()) if holder in index]
    tries = len(given) if len(given) > threshold else 1
    for start in range(tries if len(given) >= threshold else 0):
        secret = Shamir.combine((given[start:] + given[:start])[:threshold])
        if right(secret):
            return secret
    return None
