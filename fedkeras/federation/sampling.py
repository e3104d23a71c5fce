"""Who failed again and again rests for some rounds, so that one dead client does not cost every round a time-out.

What counts is being asked: a client that was asked `rest_after` times in a row and gave no good answer, be it late, an
error or rubbish, is left out of the next `rest_rounds` rounds. Each attempt of a repeated round counts. Training and
evaluation are counted apart: who cannot evaluate still trains. One good answer wipes a client's count; the end of a
rest does not, so who comes back and fails again rests again at once.

Places of resting clients are filled from the others. Where there are not enough others (`min_results` for training, one
for evaluation), the cohort is filled up with resting clients after all, and so it is when a round is repeated.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from flwr.app import MessageType

from fedkeras.config import Config
from fedkeras.federation.cohort import cohort_size, sampling_order

log = logging.getLogger("fedkeras")

PHASES = (MessageType.TRAIN, MessageType.EVALUATE)


@dataclass
class FailureCount:
    """How often a client failed in a row at one task, and the round in which it may be asked again (0: any)."""

    failed: int = 0
    until: int = 0


class FailureTracker:
    """The failures of all clients. No clock, no order of arrival: the same failures give the same cohorts."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._accounts: dict[str, dict[int, FailureCount]] = {phase: {} for phase in PHASES}

    def cohort(
        self, available: Iterable[int], phase: str, server_round: int, failed: Iterable[int] | None = None
    ) -> list[int]:
        """Client ids to ask, ascending: `sample`'s, with those that rest left out or last.

        In a repeated round, `failed` are those that failed in an earlier attempt: they are asked after all others, but
        before those that rest. Of the resting, those come first whose rest ends soonest.
        """
        config, training = self._config, phase == MessageType.TRAIN
        size = cohort_size(config.num_partitions, config.fraction_train if training else config.fraction_evaluate)
        order = sampling_order(available, config.num_partitions, config.seed, server_round, phase)
        rest_of = {cid: self._rest_of(phase, cid, server_round) for cid in order}
        order.sort(key=lambda cid: (rest_of[cid], cid in (failed or ())))  # stable: among equals as sampled
        fresh = [cid for cid in order if not rest_of[cid]]
        if failed is None and len(fresh) >= (config.min_results if training else 1):
            order = fresh
        return sorted(order[:size])

    def resting(self, phase: str, server_round: int) -> list[int]:
        """Who rests in this round, ascending in cid."""
        return sorted(cid for cid in self._accounts[phase] if self._rest_of(phase, cid, server_round))

    def note(self, phase: str, server_round: int, answered: Iterable[int], failures: Mapping[int, str]) -> None:
        """What came of asking: who answered well, and who did not, with the reason. Nothing changes for the others."""
        accounts = self._accounts[phase]
        for cid in sorted(answered):
            if accounts.pop(cid, FailureCount()).until:
                log.info("client %d is back: it could %s in round %d", cid, phase, server_round)
        for cid, reason in sorted(failures.items()):
            account = accounts.setdefault(cid, FailureCount())
            account.failed += 1
            if not self._config.rest_after or account.failed < self._config.rest_after:
                continue
            rested, account.until = account.until > server_round, server_round + self._config.rest_rounds + 1
            if not rested:  # who was fetched from its rest, and failed again, is no news
                times = f"{account.failed} time{'s' if account.failed > 1 else ''} in a row"
                log.warning(
                    "client %d failed to %s %s and rests until round %d: %s", cid, phase, times, account.until, reason
                )

    def table(self) -> dict:
        """All that a resumed run must know, for JSON: {phase: {cid: {"failed": n, "until": round}}}."""
        return {
            phase: {str(cid): asdict(account) for cid, account in sorted(accounts.items())}
            for phase, accounts in self._accounts.items()
        }

    @classmethod
    def from_table(cls, config: Config, table: Mapping) -> "FailureTracker":
        """What `table` gave; an empty table is nobody's failure. Raises ValueError if it is no such table."""
        rests = cls(config)
        try:
            for phase, accounts in table.items():
                for cid, account in accounts.items():
                    rests._accounts[phase][int(cid)] = FailureCount(int(account["failed"]), int(account["until"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no table of rests: {type(error).__name__}: {error}") from error
        return rests

    def _rest_of(self, phase: str, cid: int, server_round: int) -> int:
        """The round in which the client's rest ends, if it has not ended yet; else 0."""
        until = self._accounts[phase].get(cid, FailureCount()).until
        return until if until > server_round else 0
