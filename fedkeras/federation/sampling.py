"""Who takes part in a round: a random cohort, without those that have failed again and again.

A cohort is a function of (seed, round, purpose), never of who connected first.

What counts as a failure is being asked: a client that was asked `rest_after` times in a row and gave no good answer, be
it late, an error or rubbish, is suspended for the next `rest_rounds` rounds, so that one dead client does not cost
every round a time-out. Each attempt of a repeated round counts. Training and evaluation are counted apart: who cannot
evaluate still trains. One good answer wipes a client's count; the end of a suspension does not, so who comes back and
fails again is suspended again at once.

Places of the suspended are filled from the others. Where there are not enough others (`min_results` for training, one
for evaluation), the cohort is filled up with the suspended after all, and so it is when a round is repeated.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from flwr.app import MessageType

from fedkeras.config import Config
from fedkeras.randomness import generator

log = logging.getLogger("fedkeras")

FailureTable = Mapping[str, Mapping[str, Mapping[str, int]]]
"""{phase: {cid: {"failed": n, "until": round}}}, as a checkpoint holds it."""

PHASES = (MessageType.TRAIN, MessageType.EVALUATE)


def sample(
    available: Iterable[int], num_partitions: int, fraction: float, seed: int, server_round: int, purpose: str
) -> list[int]:
    """Client ids of the cohort, ascending: a function of (seed, round, purpose), not of who connected first.

    All `num_partitions` clients are put in a random order, and the first max(1, round(fraction * num_partitions)) that
    are available are taken; so one client's absence brings in the next and leaves the rest of the cohort as it was.
    """
    order = sampling_order(available, num_partitions, seed, server_round, purpose)
    return sorted(order[: cohort_size(num_partitions, fraction)])


def cohort_size(num_partitions: int, fraction: float) -> int:
    """How many clients a round asks: the rounded share of all, and at least one."""
    return max(1, round(fraction * num_partitions))


def sampling_order(
    available: Iterable[int], num_partitions: int, seed: int, server_round: int, purpose: str
) -> list[int]:
    """The available clients in the random order in which they are taken: all clients' order, without the absent."""
    order = generator(seed, "cohort", purpose, server_round).permutation(num_partitions)
    present = set(available)
    return [int(cid) for cid in order if cid in present]


@dataclass
class FailureCount:
    """How often a client failed in a row at one task, and the round in which it may be asked again (0: any)."""

    failed: int = 0
    until: int = 0


class FailureTracker:
    """The failures of all clients. No clock, no order of arrival: the same failures give the same cohorts."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._failures: dict[str, dict[int, FailureCount]] = {phase: {} for phase in PHASES}

    def cohort(
        self,
        available: Iterable[int],
        phase: str,
        server_round: int,
        failed: Iterable[int] | None = None,
        size: int | None = None,
    ) -> list[int]:
        """Client ids to ask, ascending: `sample`'s, with the suspended left out or last.

        In a repeated round, `failed` are those that failed in an earlier attempt: they are asked after all others, but
        before the suspended. Of these, those come first whose suspension ends soonest.
        `size`: how many, unless as many as the run's share of clients says.
        """
        config = self._config
        size = self.wanted(phase) if size is None else size
        order = sampling_order(available, config.num_partitions, config.seed, server_round, phase)
        until = {cid: self._suspended_until(phase, cid, server_round) for cid in order}
        order.sort(key=lambda cid: (until[cid], cid in (failed or ())))  # stable: among equals as sampled
        fresh = [cid for cid in order if not until[cid]]
        if failed is None and len(fresh) >= self._needed(phase):
            order = fresh
        return sorted(order[:size])

    def wanted(self, phase: str) -> int:
        """How many clients a round wants in this phase."""
        config, training = self._config, phase == MessageType.TRAIN
        return cohort_size(config.num_partitions, config.fraction_train if training else config.fraction_evaluate)

    def eligible(self, connected: Iterable[int], phase: str, server_round: int) -> list[int]:
        """Those of the connected that are not suspended, ascending; all of them if too few would be left."""
        connected = sorted(connected)
        fresh = [cid for cid in connected if not self._suspended_until(phase, cid, server_round)]
        return fresh if len(fresh) >= self._needed(phase) else connected

    def suspended(self, phase: str, server_round: int) -> list[int]:
        """Who is suspended in this round, ascending in cid."""
        return sorted(cid for cid in self._failures[phase] if self._suspended_until(phase, cid, server_round))

    def note(self, phase: str, server_round: int, answered: Iterable[int], failures: Mapping[int, str]) -> None:
        """What came of asking: who answered well, and who did not, with the reason. Nothing changes for the others."""
        counts = self._failures[phase]
        for cid in sorted(answered):
            if counts.pop(cid, FailureCount()).until:
                log.info("client %d is back: it could %s in round %d", cid, phase, server_round)
        for cid, reason in sorted(failures.items()):
            count = counts.setdefault(cid, FailureCount())
            count.failed += 1
            if not self._config.rest_after or count.failed < self._config.rest_after:
                continue
            before, count.until = count.until > server_round, server_round + self._config.rest_rounds + 1
            if not before:  # who was asked though it was suspended, and failed again, is no news
                times = f"{count.failed} time{'s' if count.failed > 1 else ''} in a row"
                log.warning(
                    "client %d failed to %s %s and is suspended until round %d: %s",
                    cid,
                    phase,
                    times,
                    count.until,
                    reason,
                )

    def table(self) -> FailureTable:
        """All that a resumed run must know, for JSON: {phase: {cid: {"failed": n, "until": round}}}."""
        return {
            phase: {str(cid): asdict(count) for cid, count in sorted(counts.items())}
            for phase, counts in self._failures.items()
        }

    @classmethod
    def from_table(cls, config: Config, table: FailureTable) -> "FailureTracker":
        """What `table` gave; an empty table is nobody's failure. Raises ValueError if it is no such table."""
        tracker = cls(config)
        try:
            for phase, counts in table.items():
                for cid, count in counts.items():
                    tracker._failures[phase][int(cid)] = FailureCount(int(count["failed"]), int(count["until"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no table of failures: {type(error).__name__}: {error}") from error
        return tracker

    def _suspended_until(self, phase: str, cid: int, server_round: int) -> int:
        """The round in which the client's suspension ends, if it has not ended yet; else 0."""
        until = self._failures[phase].get(cid, FailureCount()).until
        return until if until > server_round else 0

    def _needed(self, phase: str) -> int:
        return self._config.min_results if phase == MessageType.TRAIN else 1
