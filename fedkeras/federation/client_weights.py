"""What each client counts for in a phase: its examples, which it may only claim to have, or as much as all others.

A count is a fact where the server has dealt the data out; else it is a claim. A client's first word on it holds for the
whole run (a checkpoint keeps it), a later one that differs is that client's fault, and a claim counts for at most
`--max-client-weight` times the median of the round's cohort. `num-examples` is the number of different examples that a
figure is about, however many epochs went over them: fewer epochs, k-fold and suspensions leave it as it is. A mod of
whose clients this is not true says `fixed_counts = False`.

Whatever the policy decides is written into the replies before a strategy sees them: every strategy reads `num-examples`
there, ours, Flower's and the user's.
"""

import math
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from statistics import median_low
from typing import Generic, TypeVar

from flwr.app import Message, MessageType, MetricRecord, RecordDict

from fedkeras.config import Config
from fedkeras.data.partition import size_weights
from fedkeras.federation.messages import NUM_EXAMPLES, metrics_of
from fedkeras.federation.records import of_kind

Counts = Mapping[int, int]
"""{cid: examples}."""
CountTable = Mapping[str, Mapping[str, int]]
"""{phase: {cid: examples}}, as a checkpoint holds it."""
Key = TypeVar("Key", bound=Hashable)

PHASES = (MessageType.TRAIN, MessageType.EVALUATE)
MAJORITY = 0.5
"""Share of the weight above which one client of three or more decides."""
ROUNDING = 2.0
"""Of parts by --sizes a claim may exceed the stated proportion by this factor: held-out rows are rounded."""


@dataclass(frozen=True)
class Weighting(Generic[Key]):
    """What the clients of a phase count for. `claims` are the counts that were cut down, to what `counts` has."""

    counts: Mapping[Key, int]
    weights: Mapping[Key, int]
    claims: Mapping[Key, int] = field(default_factory=dict)
    median: int = 0

    def heaviest(self, keys: Collection[Key]) -> tuple[Key, float] | None:
        """Which of those that answered carries most of their weight, and its share of it; None: nobody answered."""
        total = sum(self.weights[key] for key in keys)
        key = max(keys, key=lambda each: self.weights[each], default=None)
        return None if key is None else (key, self.weights[key] / total)


class ClientWeights:
    """The run's policy, and what is known of its clients' examples."""

    def __init__(self, config: Config, fixed: bool = True) -> None:
        """`fixed`: a client's count must not change. Raises UserError for --sizes that are none."""
        self._policy, self._fixed = config.client_weights, fixed
        self.factor = config.max_client_weight
        if config.uses_catalogue and config.partitioner == "sizes":
            sizes = sorted(size_weights(config).tolist())
            self.factor = max(self.factor, ROUNDING * sizes[-1] / median_low(sizes))
        self._dealt: dict[str, Counts] = {}
        self._said: dict[str, dict[int, int]] = {phase: {} for phase in PHASES}

    def deal(self, counts: Mapping[str, Counts]) -> None:
        """The server has dealt the examples out, {phase: {cid: examples}}: it asks nobody, and caps nothing."""
        self._dealt = dict(counts)

    def deals(self, phase: str) -> bool:
        """Whether the server has dealt out what this phase's figures are of."""
        return phase in self._dealt

    def largest_dealt(self, phase: str) -> int:
        """The most examples that one client was dealt; 0: they are not dealt out."""
        return max(self._dealt.get(phase, {}).values(), default=0)

    def register(self, cid: int, counts: Mapping[str, int]) -> None:
        """What a client says before it is asked to do anything; what it said before holds."""
        for phase, count in counts.items():
            if count > 0:
                self._said[phase].setdefault(cid, count)

    def knows(self, cid: int) -> bool:
        """Whether this client's examples are known before it is asked to train on them."""
        return self._known(MessageType.TRAIN, cid) is not None

    def examples(self, phase: str, cid: int, stated: int) -> int:
        """How many examples a client has, which states so many: what is known of it goes before that."""
        known = self._known(phase, cid) if self._fixed else None
        return stated if known is None else known

    def fault(self, phase: str, cid: int, count: int) -> str | None:
        """What is wrong with a client's stated count, in one line, or None."""
        if self._policy == "uniform":
            return None
        known = self._known(phase, cid)
        if known is None and self._policy == "known":
            return "has not said how many examples it has before it used them (--client-weights known)"
        if known is None or known == count or not self._fixed:
            return None
        if cid in self._dealt.get(phase, {}):
            return f"says it has {count} examples to {phase}, and its part of the data has {known}"
        return f"says it has {count} examples to {phase}, and said {known} before: counts hold for a whole run"

    def decided(self, phase: str, cids: Collection[int]) -> bool:
        """Whether what these clients count for is known before they answer; else it depends on what all of them say."""
        return self._policy == "uniform" or (
            self._takes_known and all(self._known(phase, cid) is not None for cid in cids)
        )

    def settle(self, phase: str, cids: Collection[int], claims: Counts) -> Weighting[int]:
        """What a cohort counts for, by `claims` of those that have answered well; a client's first one is kept."""
        if self._policy == "uniform":
            return self.weigh({**dict.fromkeys(cids, 1), **claims})
        if self._fixed:
            for cid, count in claims.items():
                if self._known(phase, cid) is None:
                    self._said[phase][cid] = count
        counts = dict(claims)
        for cid in cids if self._takes_known else ():
            if (known := self._known(phase, cid)) is not None:
                counts[cid] = known
        return self.weigh(counts, facts=self._takes_known and phase in self._dealt)

    def weigh(self, counts: Mapping[Key, int], facts: bool = False) -> Weighting[Key]:
        """The policy on these counts and nothing else; `facts` are not capped."""
        if self._policy == "uniform":
            return Weighting(counts, dict.fromkeys(counts, 1))
        return Weighting(counts, counts) if facts else self.cap(counts)

    def cap(self, counts: Mapping[Key, int]) -> Weighting[Key]:
        """What of these claims counts, whatever the policy."""
        if not counts:
            return Weighting({}, {})
        middle = median_low(counts.values())
        limit = max(1, math.floor(self.factor * middle))
        capped = {key: min(count, limit) for key, count in counts.items()}
        return Weighting(capped, capped, {key: count for key, count in counts.items() if count > limit}, middle)

    @property
    def _takes_known(self) -> bool:
        """Whether what is known of a client goes before what it says."""
        return self._fixed or self._policy == "known"

    def _known(self, phase: str, cid: int) -> int | None:
        return self._dealt.get(phase, {}).get(cid, self._said[phase].get(cid))

    def table(self) -> CountTable:
        """What a resumed run must know, for JSON."""
        return {phase: {str(cid): count for cid, count in sorted(said.items())} for phase, said in self._said.items()}

    def restore(self, table: CountTable) -> None:
        """What `table` gave; an empty table is nobody's word. Raises ValueError if it is no such table."""
        try:
            for phase, counts in table.items():
                self._said[phase] = {int(cid): int(count) for cid, count in counts.items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no table of examples: {type(error).__name__}: {error}") from error


def with_weight(reply: Message, weight: int) -> Message:
    """The reply as a strategy is to see it: the same where its number of examples is the weight already."""
    if metrics_of(reply.content)[NUM_EXAMPLES] == weight:
        return reply
    records = dict(reply.content)
    name, table = next(iter(of_kind(reply.content, MetricRecord).items()))
    records[name] = MetricRecord({**table, NUM_EXAMPLES: weight})
    return Message(RecordDict(records), metadata=reply.metadata)
