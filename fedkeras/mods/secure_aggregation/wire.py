"""What client and server of secure aggregation say to each other, in the five messages of one attempt at a round.

    train, evaluate    the strategy's own message -> the names of the client's figures, when it is done
    secagg_advertise   the terms of the sum -> public keys of this attempt
    secagg_share       the neighbours' keys -> shares of this client's secrets, each sealed for one neighbour
    secagg_mask        what neighbours sealed for it -> update and figures as one masked vector of uint32
    secagg_unmask      who is in the sum and who was lost -> of each neighbour a share of one secret, never of both

Who is lost while it trains is not part of the terms, and costs nothing. An attempt has a name of random bytes that
stands in each of its messages. Each message of the server's has a record of arrays, empty but for the strategy's own,
against which the round's loop holds what stands for the client's answer.
"""

from collections.abc import Mapping

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, MessageType, RecordDict

from fedkeras.federation.records import of_kind, record, view
from fedkeras.mods.secure_aggregation.client_session import Shares

ADVERTISE, SHARE, MASK, UNMASK = (
    f"{MessageType.QUERY}.secagg_{step}" for step in ("advertise", "share", "mask", "unmask")
)
"""Message types."""
STEPS = (ADVERTISE, SHARE, MASK, UNMASK)

ATTEMPT = "secagg-attempt"
"""Key of each message's configuration: the attempt's name, 32 hexadecimal digits."""
TERMS = "secagg-terms"
"""`Terms.to_bytes`."""
FIGURES = "secagg-figures"
"""The names of figures: those that a client has, and those that all have, in the vector's order."""
MOST_EXAMPLES = "secagg-most-examples"
"""What a client's number of examples counts for at most; 1: all clients count alike."""
WORDS = "secagg-words"
"""How many words the masked vector has."""
SURVIVORS, DROPPED = "secagg-survivors", "secagg-dropped"
"""Client ids."""

KEYS, SEALED, VECTOR = "secagg-keys", "secagg-sealed", "secagg-vector"
"""Names of records: bytes by client id, and the masked vector."""
SELF_MASKS, MASK_KEYS = "secagg-self-masks", "secagg-mask-keys"
"""The two kinds of shares, bytes by client id."""


def blobs(table: Mapping[int, bytes]) -> ConfigRecord:
    """Bytes by client id as a record."""
    return ConfigRecord({str(cid): data for cid, data in table.items()})


def blobs_of(content: RecordDict, name: str) -> dict[int, bytes]:
    """Bytes by client id. Raises ValueError for a record that is none of these."""
    table = content.get(name)
    if not isinstance(table, ConfigRecord):
        raise ValueError(f"there is no record '{name}' in the message")
    if not all(
        cid.isascii() and cid.isdecimal() and len(cid) < 10 and type(data) is bytes for cid, data in table.items()
    ):
        raise ValueError(f"the record '{name}' is not of bytes by client")
    return {int(cid): data for cid, data in table.items()}


def vector(words: np.ndarray) -> ArrayRecord:
    """The masked vector as a record."""
    return record({VECTOR: words})


def vector_of(content: RecordDict, words: int) -> np.ndarray:
    """The masked vector. Raises ValueError for anything else than `words` numbers of 32 bits."""
    arrays = of_kind(content, ArrayRecord)
    if len(arrays) != 1 or list(next(iter(arrays.values()))) != [VECTOR]:
        raise ValueError("sent no masked vector")
    array = next(iter(arrays.values()))[VECTOR]
    if array.dtype != "uint32" or tuple(array.shape) != (words,):
        found = f"{array.dtype[:20]}{list(array.shape)[:4]}"
        raise ValueError(f"sent a masked vector that is {found}, not uint32[{words}]")
    return view(array)


def shares(revealed: Shares) -> dict[str, ConfigRecord]:
    """A client's last answer as records."""
    return {SELF_MASKS: blobs(revealed.self_masks), MASK_KEYS: blobs(revealed.mask_keys)}


def shares_of(content: RecordDict) -> Shares:
    """A client's last answer. Raises ValueError for anything else."""
    return Shares(blobs_of(content, SELF_MASKS), blobs_of(content, MASK_KEYS))


def cids_of(table: Mapping[str, object], key: str) -> list[int]:
    """A list of client ids. Raises ValueError for anything else."""
    found = table.get(key)
    if not isinstance(found, list) or not all(type(cid) is int for cid in found):
        raise ValueError(f"there is no list of clients '{key}' in the message")
    return found


def config_of(content: RecordDict) -> ConfigRecord:
    """A message's configuration; empty if there is none."""
    found = content.get("config")
    return found if isinstance(found, ConfigRecord) else ConfigRecord()
