"""The callback that opens a run's ledger, and ends the run before its budget is exceeded."""

from typing import TYPE_CHECKING

from fedkeras.accountant import short
from fedkeras.callbacks import Callback
from fedkeras.mods.client_dp.ledger import NAME, Ledger

if TYPE_CHECKING:
    from fedkeras.mods.client_dp.mod import ClientDp
    from fedkeras.workflows.base import RunContext


class PrivacyBudget(Callback):
    """Looks into the ledger before each round."""

    def __init__(self, dp: "ClientDp") -> None:
        self._dp = dp

    def on_run_begin(self, run: "RunContext") -> None:
        """The ledger lies in the run's folder; of a run that goes on it is there. Raises UserError."""
        dp = self._dp
        dp.ledger = Ledger(dp.mechanism, dp.terms, run.folder.path / NAME, begun=run.start is not None)

    def on_round_begin(self, server_round: int) -> bool:
        """True: one more round would exceed the budget."""
        if self._dp.ledger.has_room():
            return False
        print(
            f"privacy: round {server_round} would exceed epsilon {self._dp.budget:g} (a round that was done again has "
            "cost again): no further rounds",
            flush=True,
        )
        return True

    def on_rounds_end(self) -> None:
        """Say what was spent."""
        dp, count = self._dp, len(self._dp.ledger.entries)
        private = "; NOT PRIVATE (study=true)" if dp.study else ""
        print(
            f"privacy: epsilon {dp.ledger.spent:.4g} at delta {short(dp.delta)} spent in {count} rounds{private}",
            flush=True,
        )
