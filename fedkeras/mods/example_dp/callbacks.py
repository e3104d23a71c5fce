"""The callback that opens a run's ledger, and ends the run before a client's budget is exceeded."""

import logging
import statistics
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from flwr.app import MessageType

from fedkeras.accountant import short
from fedkeras.callbacks import Callback, FinishedRound
from fedkeras.mods.example_dp.ledger import NAME, ExampleLedger

if TYPE_CHECKING:
    from fedkeras.workflows.base import RunContext

log = logging.getLogger("fedkeras")


class ExampleBudget(Callback):
    """Looks into the ledger before each round; knows the nodes of a cohort by their client ids."""

    def __init__(self, ledger: ExampleLedger) -> None:
        self._ledger, self._warned = ledger, False
        self.cids: Mapping[int, int] = {}
        """{node id: cid} of the cohort that trains now."""

    def on_run_begin(self, run: "RunContext") -> None:
        """The ledger lies in the run's folder; of a run that goes on it is there. Raises UserError."""
        self._ledger.open(run.folder.path / NAME, begun=run.start is not None)

    def on_round_begin(self, server_round: int) -> bool:
        """True: one more round would exceed a client's budget."""
        whose = self._ledger.exhausted()
        if whose is None:
            return False
        budget = self._ledger.terms.budget
        print(
            f"dp-sgd: round {server_round} would exceed epsilon {budget:g} ({whose}; a round that was done again has "
            "cost again): no further rounds",
            flush=True,
        )
        return True

    def on_phase_begin(
        self, server_round: int, phase: str, cohort: Collection[int], suspended: Collection[int]
    ) -> None:
        """Who is behind a node."""
        if phase == MessageType.TRAIN and isinstance(cohort, Mapping):
            self.cids = {node_id: cid for cid, node_id in cohort.items()}

    def on_round_end(self, result: FinishedRound) -> bool:
        """Say once whom the delta does not protect."""
        delta = self._ledger.terms.delta
        few = [cid for cid, account in self._ledger.accounts.items() if account.examples * delta >= 1]
        if few and not self._warned:
            self._warned = True
            log.warning(
                "delta %s is 1 / examples or more for %d clients (client %d has %d examples): it protects hardly "
                "anybody there; take a smaller delta",
                short(delta), len(few), few[0], self._ledger.accounts[few[0]].examples,
            )  # fmt: skip
        return False

    def on_rounds_end(self) -> None:
        """Say what was spent."""
        terms, spent = self._ledger.terms, self._ledger.spent()
        private = "; NOT PRIVATE (study=true)" if terms.study else ""
        at = f"at delta {short(terms.delta)}"
        if not spent:
            limit = (
                "" if terms.budget is None else f", epsilon {terms.budget:g} {at} at most, by each client's own count"
            )
            print(f"dp-sgd: {self._ledger.attempts} rounds{limit}{private}", flush=True)
            return
        worst = max(spent, key=lambda cid: spent[cid])
        print(
            f"dp-sgd: epsilon {spent[worst]:.4g} {at} for client {worst}, the worst of {len(spent)}; median "
            f"{statistics.median(spent.values()):.4g}{private}",
            flush=True,
        )
