"""A table divided among clients: disjoint parts that together are the whole, stratified where targets are classes."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from data.partition import iid, sizes
from fedkeras.config import Config
from fedkeras.errors import UserError


def parse_share(text: str) -> dict[int, float]:
    """`0=2,1=1` as {0: 2.0, 1: 1.0}; unset: no weights. Raises UserError."""
    weights: dict[int, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        cid, equals, weight = (word.strip() for word in part.partition("="))
        try:
            value = float(weight)
        except ValueError:
            value = math.nan
        if not (equals and cid.isdecimal() and 0 < value < math.inf):
            raise UserError(f"--share: '{part}' is not of the form CID=WEIGHT with a weight above 0, such as 0=2,1=1")
        if int(cid) in weights:
            raise UserError(f"--share gives client {int(cid)} two weights")
        weights[int(cid)] = value
    return weights


def divide(
    count: int,
    cids: Sequence[int],
    *,
    classes: np.ndarray | None = None,
    share: Mapping[int, float] | None = None,
    seed: int = 0,
) -> dict[int, np.ndarray]:
    """Divide rows 0..count-1 among clients; returns each one's rows, sorted. Every row has one owner.

    Parts are alike in size, or in proportion to `share`, in which a client that is not named counts 1. `classes`
    (count,) makes them stratified: each part has its share of each class. Depends on nothing but the arguments, and
    not on the order of `cids`. Raises UserError where a client would have no row.
    """
    cids = sorted(cids)
    if unknown := set(share or {}) - set(cids):
        raise UserError(f"--share names client {min(unknown)}; the clients are {', '.join(map(str, cids))}")
    if len(cids) > count:
        raise UserError(f"{count} rows cannot be divided among {len(cids)} clients")
    labels = np.zeros(count, np.int8) if classes is None else classes
    weights = ",".join(repr(float((share or {}).get(cid, 1.0))) for cid in cids)
    config = Config(num_partitions=len(cids), sizes=weights, seed=seed)
    if not share:
        parts = iid(labels, config)
    else:
        try:
            parts = sizes(labels, config)
        except UserError:  # it names its own flag
            least = min(cids, key=lambda cid: share.get(cid, 1.0))
            raise UserError(f"--share leaves client {least} none of the {count} rows; make its weight larger") from None
    return {cid: np.sort(part) for cid, part in zip(cids, parts, strict=True)}
