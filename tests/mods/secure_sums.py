"""A whole attempt at a secure sum in one process: who is lost in which phase is said, everybody else keeps to it."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from fedkeras.mods.secure_aggregation.client_session import Shares, SumClient
from fedkeras.mods.secure_aggregation.encoding import Encoding, Integers
from fedkeras.mods.secure_aggregation.server_session import SumServer, UnmaskRequest
from fedkeras.mods.secure_aggregation.terms import Terms

PHASES = "advertise", "share", "mask", "unmask"


def terms_of(cohort: Collection[int], values: int = 4, *, seed: int = 0, encoding: Encoding | None = None, **options):
    """Terms for a cohort, of exact integers if nothing else is said."""
    return Terms.plan(
        round=options.pop("round", 1),
        attempt=options.pop("attempt", 0),
        cohort=sorted(cohort),
        values=values,
        encoding=encoding or Integers(1000, len(cohort)),
        graph_seed=hashlib.sha256(str(seed).encode()).digest(),
        **options,
    )


def seeded(*words: object):
    """Random bytes that are the same each time."""
    calls = count()

    def random(size: int) -> bytes:
        return hashlib.shake_256(repr((words, next(calls))).encode()).digest(size)

    return random


def vectors_of(cohort: Collection[int], values: int, seed: int = 0) -> dict[int, np.ndarray]:
    """Anything that 32 bits can hold."""
    rng = np.random.default_rng(seed)
    return {cid: rng.integers(0, 2**32, values, dtype=np.uint32) for cid in sorted(cohort)}


def plain_sum(vectors: Mapping[int, np.ndarray], cids: Collection[int]) -> np.ndarray:
    """Modulo 2^32, by Python's integers."""
    columns = zip(*(vectors[cid].tolist() for cid in cids), strict=True)
    return np.array([sum(column) % 2**32 for column in columns], np.uint32)


def no_secrets(secret: bytes, holders: Collection[int], threshold: int) -> dict[int, bytes]:
    """In place of shares where a test comes to no sum: the library takes its time over those of many neighbours."""
    return dict.fromkeys(holders, bytes(16))


@dataclass
class Attempt:
    """An attempt step by step; `lost` names who is gone from a phase on; `stored` sends each client through bytes."""

    terms: Terms
    vectors: Mapping[int, np.ndarray]
    lost: Mapping[str, Collection[int]] = field(default_factory=dict)
    stored: bool = False
    seed: int | None = None

    def __post_init__(self) -> None:
        self.server = SumServer(self.terms)
        self.clients = {cid: self._client(cid) for cid in self.terms.cohort}
        self.uploads: dict[int, np.ndarray] = {}
        self.wire: list[bytes] = []
        """All that the server receives."""

    def _client(self, cid: int) -> SumClient:
        terms = Terms.from_bytes(self.terms.to_bytes())
        return SumClient(terms, cid) if self.seed is None else SumClient(terms, cid, seeded(self.seed, cid))

    def answering(self, phase: str) -> list[int]:
        """Who is asked in this phase and there; each comes out of its stored state if wanted."""
        gone = {cid for name in PHASES[: PHASES.index(phase) + 1] for cid in self.lost.get(name, ())}
        cids = [cid for cid in self.server.remaining if cid not in gone]
        if self.stored:
            self.clients.update({cid: SumClient.from_bytes(self.clients[cid].to_bytes()) for cid in cids})
        return cids

    def to_share(self) -> None:
        keys = {cid: self.clients[cid].advertise() for cid in self.answering("advertise")}
        self.wire += [key.to_bytes() for key in keys.values()]
        self.rosters = self.server.advertised(keys)

    def to_mask(self) -> None:
        self.to_share()
        sealed = {cid: self.clients[cid].share(self.rosters[cid]) for cid in self.answering("share")}
        self.wire += [text for texts in sealed.values() for text in texts.values()]
        self.letters = self.server.shared(sealed)

    def to_unmask(self) -> UnmaskRequest:
        self.to_mask()
        for cid in self.answering("mask"):
            self.uploads[cid] = self.clients[cid].mask(self.letters[cid], self.vectors[cid])
            assert self.server.masked(cid, self.uploads[cid])
        self.wire += [upload.tobytes() for upload in self.uploads.values()]
        self.request = self.server.unmasking()
        return self.request

    def shares(self) -> dict[int, Shares]:
        request = self.to_unmask()
        return {cid: self.clients[cid].unmask(request.survivors, request.dropped) for cid in self.answering("unmask")}

    def total(self) -> np.ndarray:
        shares = self.shares()
        for given in shares.values():
            self.wire += [*given.self_masks.values(), *given.mask_keys.values()]
        self.server.unmasked(shares)
        return self.server.sum()
