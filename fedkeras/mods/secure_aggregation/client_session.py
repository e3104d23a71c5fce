"""A client's side of one attempt at a secure sum, without any sending: four steps, each once and in their order.

Bonawitz et al. 2017, figure 4, with the double mask; Bell et al. 2020, algorithm 2, for neighbours alone. Client u
sends

    y_u  =  x_u + PRG(b_u) + sum over neighbours v that shared of (+ if u < v else -) PRG(s_uv)      (mod 2^32)

and afterwards, for each neighbour, a share of b if it survived or of its key for masks if it was lost, never of both.
Since pairwise masks cancel, the server is left with the survivors' sum.

    session = SumClient(Terms.from_bytes(received), cid)
    keys = session.advertise()                       # to the server
    sealed = session.share(roster)                   # neighbours' keys -> for each neighbour, 60 bytes
    masked = session.mask(ciphertexts, vector)       # what neighbours sealed -> the vector to upload
    shares = session.unmask(survivors, dropped)      # who is in the sum, who was lost -> shares to send

`to_bytes` and `SumClient.from_bytes` carry it from one process to the next between any two steps. They hold the
client's secrets: they belong into the client's own memory or state, never on the wire or into a checkpoint.
"""

import json
import secrets
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedkeras.mods.secure_aggregation.failures import ProtocolRefused
from fedkeras.mods.secure_aggregation.keys import (
    KEY,
    NONCE,
    SEED,
    PublicKeys,
    mask_key,
    pair_key,
    public_of,
    seal,
    self_mask,
    unseal,
)
from fedkeras.mods.secure_aggregation.masks import add_masks
from fedkeras.mods.secure_aggregation.sharing import split
from fedkeras.mods.secure_aggregation.terms import Terms

Randomness = Callable[[int], bytes]
"""So many random bytes: `secrets.token_bytes`, or a function of the seed for a study, which keeps no secret."""

STEPS = ("advertise", "share", "mask", "unmask")


@dataclass(frozen=True)
class Shares:
    """What a client reveals at the end: of each neighbour (and itself) one share, of 16 bytes, of one secret."""

    self_masks: Mapping[int, bytes]
    """Of survivors."""
    mask_keys: Mapping[int, bytes]
    """Of those that were lost after they had shared."""


class SumClient:
    """One client in one attempt; another attempt is another session with fresh keys.

    Every refusal is a ProtocolRefused of one line; a step that refused leaves the session as it was, save `unmask`,
    which can be asked once. Terms are checked before any key is made.
    """

    def __init__(self, terms: Terms, cid: int, randomness: Randomness = secrets.token_bytes) -> None:
        """Raises ProtocolRefused for terms that this client must not accept (`Terms.check`)."""
        terms.check(cid)
        self.terms, self.cid = terms, cid
        self._random = randomness
        self._done = 0
        self._message_key = self._mask_seed = self._self_seed = b""
        self._own_share = b""
        """Its own share of its self-mask."""
        self._peers: dict[int, tuple[bytes, bytes]] = {}
        """Of each neighbour that advertised, its public key for messages and the pair's key for masks."""
        self._held: dict[int, tuple[bytes, bytes]] = {}
        """Of each neighbour that shared, its shares of self-mask and mask key."""

    @property
    def next_step(self) -> str:
        """advertise, share, mask, unmask, or nothing when all are done."""
        return STEPS[self._done] if self._done < len(STEPS) else ""

    def advertise(self) -> PublicKeys:
        """Make this attempt's keys and masks; what of them is public, for the server."""
        self._at("advertise")
        self._message_key, self._mask_seed, self._self_seed = (self._random(size) for size in (KEY, SEED, SEED))
        self._done += 1
        return self.public_keys

    @property
    def public_keys(self) -> PublicKeys:
        """What `advertise` gave."""
        check = self_mask(self._self_seed, self.terms.digest, self.cid).check
        return PublicKeys(public_of(self._message_key), public_of(self._mask_key), check)

    def share(self, roster: Mapping[int, PublicKeys]) -> dict[int, bytes]:
        """Shares of this client's two secrets, sealed, 60 bytes for each neighbour in `roster`.

        `roster` has the keys of those neighbours that advertised, and no one else's. Refused: a client that is no
        neighbour, a key that is there twice or is this client's own, one that is no key, fewer than threshold - 1
        neighbours.
        """
        self._at("share")
        self._require_neighbours(roster, "keys are sent")
        self._require_distinct(roster)
        self._require_enough(len(roster) + 1, "have advertised keys")
        terms, holders = self.terms, self.terms.holders(self.cid)
        of_self_mask = split(self._self_seed, holders, terms.threshold)
        of_mask_key = split(self._mask_seed, holders, terms.threshold)
        own, sealed, peers = self._mask_key, {}, {}
        for peer, keys in sorted(roster.items()):
            text, nonce = of_self_mask[peer] + of_mask_key[peer], self._random(NONCE)
            try:
                peers[peer] = keys.messages, pair_key(own, keys.masks, terms.digest, self.cid, peer)
                sealed[peer] = seal(text, nonce, self._message_key, keys.messages, terms.digest, self.cid, peer)
            except ValueError:
                raise ProtocolRefused(f"the keys that client {peer} advertised are no X25519 keys") from None
        self._own_share, self._peers = of_self_mask[self.cid], peers
        self._mask_seed = b""  # what it was good for lies in the pairs' keys and in others' hands
        self._done += 1
        return sealed

    def mask(self, ciphertexts: Mapping[int, bytes], vector: np.ndarray) -> np.ndarray:
        """`vector` (uint32, shape (terms.length,)) masked, as a new array of the same kind.

        `ciphertexts` has what each neighbour that shared has sealed for this client; who is missing there is lost, and
        no mask is made for it. Refused: one that was changed, one of a client whose keys were not sent, too few.
        """
        self._at("mask")
        if vector.dtype != np.uint32 or vector.shape != (self.terms.length,):
            raise ProtocolRefused(
                f"this secure sum is of {self.terms.length} uint32, and the vector has shape {vector.shape} "
                f"and {vector.dtype}"
            )
        self._require_neighbours(ciphertexts, "shares are sent")
        self._require_enough(len(ciphertexts) + 1, "have shared their secrets")
        held = {}
        for peer, sealed in sorted(ciphertexts.items()):
            if peer not in self._peers:
                raise ProtocolRefused(f"client {peer} has shared its secrets, and its keys were never sent")
            text = unseal(sealed, self._message_key, self._peers[peer][0], self.terms.digest, peer, self.cid)
            if len(text) != 2 * SEED:
                raise ProtocolRefused(f"client {peer} has sealed {len(text)} bytes instead of two shares")
            held[peer] = text[:SEED], text[SEED:]
        own = self_mask(self._self_seed, self.terms.digest, self.cid).generator_key
        masked = np.array(vector, np.uint32)
        add_masks(masked, [(own, True), *((self._peers[peer][1], self.cid < peer) for peer in held)])
        self._message_key = self._self_seed = b""
        self._held, self._peers = held, {}
        self._done += 1
        return masked

    def unmask(self, survivors: Collection[int], dropped: Collection[int]) -> Shares:
        """Shares of the self-masks of neighbours that survived (and this client's own), of the mask keys of lost ones.

        `survivors` are all clients of the cohort whose vectors are in the sum, `dropped` all that had shared and whose
        vectors never came. Refused: both secrets of one client, this client among the lost, a neighbour that shared and
        is on neither list, one that did not and is on one, fewer survivors than the terms say, in all or among the
        holders of this client's shares, and any second question.
        """
        self._at("unmask")
        held, own, self._held, self._own_share = self._held, self._own_share, {}, b""
        self._done += 1  # asked once, whatever is answered
        alive, lost = set(survivors), set(dropped)
        if twice := [cid for cid, times in Counter((*survivors, *dropped)).items() if times > 1]:
            raise ProtocolRefused(f"the server asks for both secrets of client {min(twice)}, or names it twice")
        if self.cid not in alive:
            raise ProtocolRefused("the server asks for a sum that this client's own vector is not part of")
        if strangers := (alive | lost) - set(self.terms.cohort):
            raise ProtocolRefused(f"the server asks for a secret of client {min(strangers)}, who is not of the cohort")
        if len(alive) < self.terms.least_survivors:
            raise ProtocolRefused(
                f"the server asks for a sum of {len(alive)} clients, and {self.terms.least_survivors} are the least"
            )
        around = set(self.terms.graph[self.cid])
        if unlike := ((alive | lost) & around) ^ set(held):
            raise ProtocolRefused(f"the server contradicts itself on whether client {min(unlike)} shared its secrets")
        self._require_enough(len(alive & around) + 1, "have survived")
        self_masks = {peer: held[peer][0] for peer in sorted(alive & around)}
        mask_keys = {peer: held[peer][1] for peer in sorted(lost & around)}
        return Shares({**self_masks, self.cid: own}, mask_keys)

    def to_bytes(self) -> bytes:
        """All of it, secrets too, as JSON."""
        state = {
            "terms": self.terms.to_bytes().decode(),
            "cid": self.cid,
            "done": self._done,
            "secrets": [key.hex() for key in (self._message_key, self._mask_seed, self._self_seed, self._own_share)],
            "peers": {str(peer): [key.hex() for key in pair] for peer, pair in self._peers.items()},
            "held": {str(peer): [share.hex() for share in pair] for peer, pair in self._held.items()},
        }
        return json.dumps(state, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes, randomness: Randomness = secrets.token_bytes) -> "SumClient":
        """The session that `to_bytes` wrote. Raises ProtocolRefused for anything else."""
        try:
            state = json.loads(data)
            session = cls(Terms.from_bytes(state["terms"].encode()), state["cid"], randomness)
            own = [bytes.fromhex(text) for text in state["secrets"]]
            session._message_key, session._mask_seed, session._self_seed, session._own_share = own
            session._peers, session._held = _pairs(state["peers"]), _pairs(state["held"])
            session._done = range(len(STEPS) + 1)[state["done"]]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            raise ProtocolRefused("what this client kept of a secure sum cannot be read") from None
        return session

    @property
    def _mask_key(self) -> bytes:
        return mask_key(self._mask_seed, self.terms.digest, self.cid)

    def _at(self, step: str) -> None:
        if self.next_step != step:
            expected = f"'{self.next_step}' comes next" if self.next_step else "this attempt is over for this client"
            raise ProtocolRefused(
                f"the server asks for '{step}' (round {self.terms.round}, attempt {self.terms.attempt}), and {expected}"
            )

    def _require_neighbours(self, peers: Collection[int], what: str) -> None:
        if strangers := set(peers) - set(self.terms.graph[self.cid]):
            raise ProtocolRefused(f"{what} of client {min(strangers)}, who is no neighbour of client {self.cid}")

    def _require_distinct(self, roster: Mapping[int, PublicKeys]) -> None:
        own = self.public_keys
        seen = {own.messages: self.cid, own.masks: self.cid}
        for peer, keys in sorted(roster.items()):
            for key in (keys.messages, keys.masks):
                if key in seen:
                    raise ProtocolRefused(f"clients {seen[key]} and {peer} are said to have the same key")
                seen[key] = peer

    def _require_enough(self, holders: int, what: str) -> None:
        if holders < self.terms.threshold:
            raise ProtocolRefused(
                f"of client {self.cid} and its neighbours only {holders} {what}, and {self.terms.threshold} are needed"
            )


def _pairs(table: Mapping[str, Sequence[str]]) -> dict[int, tuple[bytes, bytes]]:
    return {int(peer): (bytes.fromhex(one), bytes.fromhex(other)) for peer, (one, other) in table.items()}
