"""The terms of one attempt at a secure sum: what the server says and each client checks before it takes part.

Bonawitz et al. 2017, figure 4, "setup"; Bell et al. 2020, algorithm 2. Every key of an attempt is derived from the
digest of its terms too: two sides with different terms understand nothing of each other.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from fedkeras.mods.secure_aggregation import parameters
from fedkeras.mods.secure_aggregation.encoding import Encoding, Integers, Quantised
from fedkeras.mods.secure_aggregation.failures import ProtocolRefused
from fedkeras.mods.secure_aggregation.graph import neighbours

VERSION = 1
SEED_BYTES = 32
MOST_CLIENTS = 10_000
"""Clients in a cohort; more are refused before anything is computed of them."""
MOST_VALUES = 2**31


@dataclass(frozen=True)
class Terms:
    """Frozen, and compared by value. Made by `Terms.plan` on the server, by `Terms.from_bytes` on a client."""

    round: int
    attempt: int
    cohort: tuple[int, ...]
    """Ids of the clients that are asked, ascending, each 0 or more."""
    degree: int
    """Neighbours of each client: len(cohort) - 1, or even and smaller."""
    threshold: int
    """Shares that open a secret, of the degree + 1 that are dealt (one to its owner)."""
    max_dropout: float
    colluding: float
    graph_seed: bytes
    """32 bytes that decide the graph, drawn by the server after the cohort and fresh for each attempt."""
    length: int
    """uint32 values in a client's vector."""
    encoding: Encoding
    version: int = VERSION

    @classmethod
    def plan(
        cls,
        *,
        round: int,
        attempt: int,
        cohort: Sequence[int],
        values: int,
        encoding: Encoding,
        graph_seed: bytes,
        max_dropout: float = 0.1,
        colluding: float = 0.1,
    ) -> "Terms":
        """The terms for a cohort, with degree and threshold as few as the fractions allow (see `parameters`).

        `values` is the number of values before the encoding. Raises ValueError, in one line, for what cannot be had.
        """
        degree, threshold = parameters.choose(len(cohort), max_dropout, colluding)
        terms = cls(
            round, attempt, tuple(sorted(cohort)), degree, threshold, max_dropout, colluding, graph_seed,
            encoding.length(values), encoding,
        )  # fmt: skip
        try:
            terms.check()
        except ProtocolRefused as error:
            raise ValueError(str(error)) from None
        return terms

    @cached_property
    def graph(self) -> dict[int, tuple[int, ...]]:
        """Each client's neighbours, ascending."""
        return neighbours(self.cohort, self.degree, self.graph_seed)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the terms, 32 bytes, of which every key is derived."""
        return hashlib.sha256(self.to_bytes()).digest()

    @property
    def least_survivors(self) -> int:
        """Clients that a sum must be of."""
        return parameters.least_survivors(len(self.cohort), self.degree, self.threshold, self.max_dropout)

    def holders(self, cid: int) -> tuple[int, ...]:
        """Who holds shares of this client's secrets, ascending: its neighbours and itself; the first holds share 1."""
        return tuple(sorted((*self.graph[cid], cid)))

    def check(self, cid: int | None = None) -> None:
        """Raise ProtocolRefused, in one line, for terms under which a client (`cid`) must not take part."""
        if self.version != VERSION:
            raise ProtocolRefused(f"secure aggregation of version {self.version} is asked for, and this is {VERSION}")
        clients = len(self.cohort)
        if not parameters.LEAST_COHORT <= clients <= MOST_CLIENTS:
            raise ProtocolRefused(
                f"a secure sum of {clients} clients is asked for, and {parameters.LEAST_COHORT} are the least"
            )
        if any(low >= high for low, high in zip(self.cohort, self.cohort[1:], strict=False)) or self.cohort[0] < 0:
            raise ProtocolRefused("the cohort of a secure sum must name each client once, in ascending order")
        if cid is not None and cid not in self.cohort:
            raise ProtocolRefused(f"client {cid} is asked for a secure sum of a cohort that it is not part of")
        if self.round < 0 or self.attempt < 0 or len(self.graph_seed) != SEED_BYTES:
            raise ProtocolRefused("a secure sum needs a round, an attempt and 32 bytes that decide its graph")
        if not 0 < self.length <= MOST_VALUES:
            raise ProtocolRefused(f"a secure sum has no vectors of {self.length} values")
        try:
            parameters.require_fractions(self.max_dropout, self.colluding)
            self.encoding.check()
        except ValueError as error:
            raise ProtocolRefused(f"the terms of this secure sum cannot be kept: {error}") from None
        if self.encoding.clients < clients:
            raise ProtocolRefused(
                f"the encoding is for sums of {self.encoding.clients} clients, and of {clients} they could overflow"
            )
        even = not self.degree % 2 and 0 < self.degree < clients
        if self.degree > parameters.MOST_NEIGHBOURS or (self.degree != clients - 1 and not even):
            raise ProtocolRefused(f"{clients} clients cannot have {self.degree} neighbours each")
        least = parameters.least_threshold(clients, self.degree, self.max_dropout, self.colluding)
        if not least <= self.threshold <= self.degree + 1:
            raise ProtocolRefused(
                f"{self.threshold} shares would open a client's secrets, and with {self.degree} neighbours and "
                f"colluding={self.colluding:g} of {clients} clients {least} are the least that is safe"
            )

    def to_bytes(self) -> bytes:
        """The terms as JSON, the same bytes for equal terms."""
        kind = "integers" if isinstance(self.encoding, Integers) else "quantised"
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        encoding = {"kind": kind, **dataclasses.asdict(self.encoding)}
        table = {**fields, "graph_seed": self.graph_seed.hex(), "encoding": encoding}
        return json.dumps(table, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Terms":
        """The terms that `to_bytes` wrote, unchecked. Raises ProtocolRefused for anything else."""
        try:
            table = json.loads(data)
            encoding = dict(table.pop("encoding"))
            kind = {"integers": Integers, "quantised": Quantised}[encoding.pop("kind")]
            seed, cohort = bytes.fromhex(table.pop("graph_seed")), tuple(table.pop("cohort"))
            whole = (
                *cohort,
                *(table[name] for name in ("round", "attempt", "degree", "threshold", "length", "version")),
            )
            if any(type(value) is not int for value in whole):
                raise TypeError
            return cls(**table, cohort=cohort, graph_seed=seed, encoding=kind(**encoding))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise ProtocolRefused("the terms of a secure sum cannot be read") from None
