"""The server's side of one attempt at a secure sum, without any sending: it is handed each phase's answers.

Bonawitz et al. 2017, figure 4; Bell et al. 2020, algorithm 2.

    session = SumServer(terms)                       # terms.to_bytes() goes to every client of the cohort
    rosters = session.advertised({cid: PublicKeys})      # to each that is left: its neighbours' keys
    letters = session.shared({cid: {neighbour: bytes}})  # to each that is left: what neighbours sealed for it
    for each vector that comes:
        session.masked(cid, vector)                      # added at once, and not kept
    request = session.unmasking()                        # to each survivor: who is in the sum, who was lost
    session.unmasked({cid: Shares})
    total = session.sum()                                # uint32, and request.survivors are who is in it

A client that is missing in a phase's answers is lost from there on, and so is one whose answer is malformed: it stands
in `refused` with the reason. Below the threshold a phase raises BelowThreshold; then the round is repeated with new
terms (attempt + 1), and whatever this session was told is worthless.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from fedkeras.mods.secure_aggregation.client_session import Shares
from fedkeras.mods.secure_aggregation.failures import BelowThreshold, SumNotCredible
from fedkeras.mods.secure_aggregation.keys import (
    KEY,
    NONCE,
    SEED,
    TAG,
    PublicKeys,
    mask_key,
    pair_key,
    public_of,
    self_mask,
)
from fedkeras.mods.secure_aggregation.masks import SignedKey, add_masks
from fedkeras.mods.secure_aggregation.sharing import join
from fedkeras.mods.secure_aggregation.terms import Terms

SEALED = NONCE + 2 * SEED + TAG
"""Bytes of what a client seals for a neighbour."""


@dataclass(frozen=True)
class UnmaskRequest:
    """What every survivor is asked, the same for all: ids ascending."""

    survivors: tuple[int, ...]
    """Whose vectors are in the sum."""
    dropped: tuple[int, ...]
    """Who had shared its secrets and sent no vector."""


class SumServer:
    """One attempt. Its phases come in the order above, each once; ValueError says that the caller did otherwise."""

    def __init__(self, terms: Terms) -> None:
        """Raises ProtocolRefused for terms that clients would refuse."""
        terms.check()
        self.terms = terms
        self.refused: dict[int, str] = {}
        """Clients that count as lost since their answer was malformed, and why."""
        self.lost: dict[str, tuple[int, ...]] = {}
        """Who was lost in each phase, refused ones too: advertise, share, mask, unmask."""
        self._left = frozenset(terms.cohort)
        self._phase = "advertise"
        self._keys: dict[int, PublicKeys] = {}
        self._shared: tuple[int, ...] = ()
        self._vector = np.zeros(terms.length, np.uint32)
        self._added: set[int] = set()
        self._self_mask_shares: dict[int, dict[int, bytes]] = {}
        self._mask_key_shares: dict[int, dict[int, bytes]] = {}

    @property
    def remaining(self) -> tuple[int, ...]:
        """Who is asked next, ascending."""
        return tuple(sorted(self._left))

    def advertised(self, answers: Mapping[int, PublicKeys]) -> dict[int, dict[int, PublicKeys]]:
        """For each client that is left, the keys of its neighbours that are left."""
        self._enter("advertise", "share")
        seen: dict[bytes, int] = {}
        for cid in self._answering(answers):
            keys = answers[cid]
            if reason := _fault_of_keys(keys, seen):
                self.refused[cid] = reason
                continue
            seen.update({keys.messages: cid, keys.masks: cid})
            self._keys[cid] = keys
        self._keep("advertise", self._keys)
        return {cid: {peer: self._keys[peer] for peer in self._around(cid)} for cid in self.remaining}

    def shared(self, answers: Mapping[int, Mapping[int, bytes]]) -> dict[int, dict[int, bytes]]:
        """For each client that is left, what each of its neighbours that are left has sealed for it."""
        self._enter("share", "mask")
        whole = []
        for cid in self._answering(answers):
            sealed = answers[cid]
            if set(sealed) != set(self._around(cid)):
                self.refused[cid] = "its shares are not for the neighbours whose keys it was sent"
            elif any(not isinstance(text, bytes) or len(text) != SEALED for text in sealed.values()):
                self.refused[cid] = f"its sealed shares are not of {SEALED} bytes each"
            else:
                whole.append(cid)
        self._keep("share", whole)
        self._shared = self.remaining
        return {cid: {peer: answers[peer][cid] for peer in self._around(cid)} for cid in self.remaining}

    def masked(self, cid: int, vector: np.ndarray) -> bool:
        """Add a client's masked vector. False where it is a second one, or none of these terms, which loses the client.

        Order does not matter: sums modulo 2^32 are exact.
        """
        self._require("mask")
        if cid in self._added:
            return False  # the first one counts
        if cid not in self._left:
            self.refused.setdefault(cid, "it sent a vector that nobody asked for")
            return False
        if not isinstance(vector, np.ndarray) or vector.dtype.newbyteorder("=") != np.uint32:
            self.refused[cid] = "its vector is not of uint32"
        elif vector.shape != (self.terms.length,):
            self.refused[cid] = f"its vector has shape {vector.shape}, and {self.terms.length} values were asked for"
        if cid in self.refused:
            return False
        self._vector += vector
        self._added.add(cid)
        return True

    def unmasking(self) -> UnmaskRequest:
        """End the phase of vectors: who is in the sum from here on, and whose masks must be taken out of it."""
        self._enter("mask", "unmask")
        self._keep("mask", self._added)
        return UnmaskRequest(self.remaining, tuple(cid for cid in self._shared if cid not in self._added))

    def unmasked(self, answers: Mapping[int, Shares]) -> None:
        """Take the survivors' shares. Raises BelowThreshold where some secret has too few."""
        self._enter("unmask", "sum")
        request = UnmaskRequest(self.remaining, tuple(cid for cid in self._shared if cid not in self._added))
        alive, lost = set(request.survivors), set(request.dropped)
        answered = []
        for cid in self._answering(answers):
            shares, around = answers[cid], set(self.terms.holders(cid))
            if set(shares.self_masks) != alive & around or set(shares.mask_keys) != lost & around:
                self.refused[cid] = "it did not send the shares that it was asked for"
                continue
            if any(
                not isinstance(share, bytes) or len(share) != SEED
                for share in (*shares.self_masks.values(), *shares.mask_keys.values())
            ):
                self.refused[cid] = f"its shares are not of {SEED} bytes each"
                continue
            answered.append(cid)
            for target, store in (
                (shares.self_masks, self._self_mask_shares),
                (shares.mask_keys, self._mask_key_shares),
            ):
                for owner, share in target.items():
                    store.setdefault(owner, {})[cid] = share
        self.lost["unmask"] = tuple(cid for cid in self.remaining if cid not in answered)
        for store, owners in ((self._self_mask_shares, request.survivors), (self._mask_key_shares, request.dropped)):
            for owner in owners:
                given = len(store.get(owner, ()))
                if given < self.terms.threshold and (owner in alive or given or self._beside(owner)):
                    whose = f"shares of client {owner}'s secret came"
                    raise BelowThreshold("unmask", given, self.terms.threshold, whose)

    def sum(self) -> np.ndarray:
        """The survivors' vectors added up modulo 2^32, exactly: uint32, shape (terms.length,).

        Raises SumNotCredible where shares give a secret that is not the one advertised.
        """
        self._enter("sum", "over")
        add_masks(self._vector, [*self._self_masks(), *self._pairwise_masks()])
        return self._vector

    def _self_masks(self) -> list[SignedKey]:
        """To be taken out of the sum: those of its clients."""
        digest, keys = self.terms.digest, []
        for cid in self.remaining:

            def right(seed: bytes, cid: int = cid) -> bool:
                return self_mask(seed, digest, cid).check == self._keys[cid].self_mask_check

            seed = self._join(cid, self._self_mask_shares[cid], right)
            keys.append((self_mask(seed, digest, cid).generator_key, False))
        return keys

    def _pairwise_masks(self) -> list[SignedKey]:
        """To be taken out of the sum: those between its clients and the lost ones."""
        digest, keys = self.terms.digest, []
        for cid, shares in sorted(self._mask_key_shares.items()):

            def right(seed: bytes, cid: int = cid) -> bool:
                return public_of(mask_key(seed, digest, cid)) == self._keys[cid].masks

            private = mask_key(self._join(cid, shares, right), digest, cid)
            for peer in self._beside(cid):
                key = pair_key(private, self._keys[peer].masks, digest, cid, peer)
                keys.append((key, cid < peer))  # the other way round than the peer did
        return keys

    def _join(self, owner: int, shares: Mapping[int, bytes], right: Callable[[bytes], bool]) -> bytes:
        seed = join(shares, self.terms.holders(owner), self.terms.threshold, right)
        if seed is None:
            raise SumNotCredible(
                f"secure aggregation: the shares of client {owner}'s secret do not fit what it advertised, so there is "
                "no sum: it, or those who hold its shares, did not keep to the protocol"
            )
        return seed

    def _beside(self, cid: int) -> list[int]:
        """A client's neighbours in the sum."""
        return [peer for peer in self.terms.graph[cid] if peer in self._added]

    def _around(self, cid: int) -> list[int]:
        """A client's neighbours that are left."""
        return [peer for peer in self.terms.graph[cid] if peer in self._left]

    def _answering(self, answers: Collection[int]) -> list[int]:
        for cid in answers:
            if cid not in self._left:
                self.refused.setdefault(cid, "it answered and was not asked")
        return [cid for cid in self.remaining if cid in answers]

    def _keep(self, phase: str, good: Collection[int]) -> None:
        """Go on with those whose answers are good, if they are enough, in all and around each secret that is needed."""
        if len(good) < self.terms.least_survivors:
            raise BelowThreshold(phase, len(good), self.terms.least_survivors)
        before, self._left = self.remaining, frozenset(good)
        self.lost[phase] = tuple(cid for cid in before if cid not in self._left)
        for cid in self._shared or self.remaining:
            holders = len(self._left.intersection(self.terms.holders(cid)))
            if holders < self.terms.threshold and (cid in self._left or holders):
                whose = f"holders of client {cid}'s secrets are left"
                raise BelowThreshold(phase, holders, self.terms.threshold, whose)

    def _require(self, phase: str) -> None:
        if self._phase != phase:
            raise ValueError(f"phase '{phase}' of a secure sum was called when '{self._phase}' comes next")

    def _enter(self, phase: str, following: str) -> None:
        self._require(phase)
        self._phase = following


def _fault_of_keys(keys: PublicKeys, seen: Mapping[bytes, int]) -> str:
    if not isinstance(keys, PublicKeys) or any(
        not isinstance(key, bytes) or len(key) != KEY for key in (keys.messages, keys.masks, keys.self_mask_check)
    ):
        return f"its keys are not of {KEY} bytes each"
    for key in (keys.messages, keys.masks):
        if key in seen:
            return f"it advertises a key of client {seen[key]}"
    return "it advertises the same key twice" if keys.messages == keys.masks else ""
