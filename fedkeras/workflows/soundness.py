"""The callback that warns at once of what cannot be right: a loss that is no number, a variance below zero."""

from typing import TYPE_CHECKING

from fedkeras.callbacks import Callback, FinishedRound
from fedkeras.federation.round_result import RoundResult
from fedkeras.federation.trainable import Trainable, variances_below_zero
from fedkeras.reports import Recorder
from fedkeras.reports.headline import SOURCES, diverged

if TYPE_CHECKING:
    from fedkeras.workflows.base import RunContext

WHOSE = {"central": "the central loss", "clients": "the clients' mean loss", "training": "the mean training loss"}


class Soundness(Callback):
    """Looks at each round's losses and global arrays; the recorder says the first of each kind."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._trainable: Trainable = ()

    def on_run_begin(self, run: "RunContext") -> None:
        """Which arrays are trained is known by now."""
        self._trainable = run.trainable or ()

    def on_round_end(self, result: FinishedRound) -> bool:
        """It never ends the run: later rounds may mend it, and its user may end it."""
        assert isinstance(result, RoundResult)
        self._look_at_variances(result)
        for source, (phase, client) in SOURCES.items():
            if any(diverged(row) for row in result.rows if (row["phase"], row["client"]) == (phase, client)):
                self._recorder.warn(
                    result.round,
                    "loss",
                    f"round {result.round}: {WHOSE[source]} is not finite, so that the global model gives no result; a "
                    "smaller --learning-rate, or eta in --strategy-args, may help",
                )
        return False

    def _look_at_variances(self, result: RoundResult) -> None:
        found = {} if result.arrays is None else variances_below_zero(result.arrays, self._trainable)
        if found:
            name = min(found, key=found.get)
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            self._recorder.warn(
                result.round,
                "variance",
                f"round {result.round}: '{name}' is down to {found[name]:.3g}{more}, and no variance is below zero: "
                "the strategy steps statistics that it should average, or noise is on them, and evaluation becomes NaN",
            )
