"""The callback that warns at once of what cannot be right: a loss that is no number, a variance below zero, a client
that has most of the weight."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fedkeras.callbacks import Callback, FinishedRound
from fedkeras.federation import strategy_adapter
from fedkeras.federation.client_weights import MAJORITY, Weighting
from fedkeras.federation.round_result import RoundResult
from fedkeras.federation.trainable import Trainable, variances_below_zero
from fedkeras.reports import Recorder
from fedkeras.reports.headline import SOURCES, diverged
from fedkeras.reports.history import UPDATES

if TYPE_CHECKING:
    from fedkeras.workflows.base import RunContext

WHOSE = {"central": "the central loss", "clients": "the clients' mean loss", "training": "the mean training loss"}


NEARLY_ALL = 0.9
"""Share of the weight above which one client of two decides."""


FEW = 0.2
"""Share of the clients that are a few of them, where these made more than half of all updates."""


def mostly_of_few(updates: Mapping[str, int], clients: int) -> str | None:
    """A line where a few of so many clients made most of an asynchronous run's updates, by client; else None."""
    total, made, few = sum(updates.values()), 0, 0
    if total < clients:
        return None  # too early to tell
    for count in sorted(updates.values(), reverse=True):
        made, few = made + count, few + 1
        if 2 * made > total:
            break
    if clients < 2 or few > max(1, FEW * clients) or (clients == 2 and made <= NEARLY_ALL * total):
        return None
    return (
        f"{few} of {clients} clients made {100 * made / total:.3g} % of the updates, so that the model is mostly "
        "theirs; a larger --buffer-size takes from more of them"
    )


class Soundness(Callback):
    """Looks at each round's losses and global arrays; the recorder says the first of each kind."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._trainable: Trainable = ()
        self._shows_clients, self._robust = True, False
        self._updates, self._clients = Counter[str](), 0

    def on_run_begin(self, run: "RunContext") -> None:
        """Which arrays are trained is known by now."""
        self._trainable, self._shows_clients = run.trainable or (), run.mods.shows_clients
        self._robust = strategy_adapter.is_robust(run.strategy)
        self._clients = run.config.num_partitions

    def on_round_end(self, result: FinishedRound) -> bool:
        """It never ends the run: later rounds may mend it, and its user may end it."""
        assert isinstance(result, RoundResult)
        self._look_at_variances(result)
        for phase, weighting in result.weightings.items():
            self._look_at_weights(result, phase, weighting)
        for row in result.rows:
            if UPDATES in row and row["client"] != "all":
                self._updates[str(row["client"])] += int(row[UPDATES])
        if self._updates and (told := mostly_of_few(self._updates, self._clients)):
            self._recorder.warn(result.round, "few", f"until version {result.round}, {told}")
        for source, (phase, client) in SOURCES.items():
            if any(diverged(row) for row in result.rows if (row["phase"], row["client"]) == (phase, client)):
                self._recorder.warn(
                    result.round,
                    "loss",
                    f"round {result.round}: {WHOSE[source]} is not finite, so that the global model gives no result; a "
                    "smaller --learning-rate, or eta in --strategy-args, may help",
                )
        return False

    def _look_at_weights(self, result: RoundResult, phase: str, weighting: Weighting[int]) -> None:
        shown = self._shows_clients
        if weighting.claims:
            who = ", ".join(
                f"client {cid} says it has {count} examples to {phase}, and counts for {weighting.counts[cid]}"
                for cid, count in list(weighting.claims.items())[:3]
            )
            more = f" (and {len(weighting.claims) - 3} more)" if len(weighting.claims) > 3 else ""
            if not shown:
                who, more = f"{len(weighting.claims)} clients say they have more examples to {phase} than counts", ""
            self._recorder.warn(
                result.round,
                f"{phase} claims",
                f"round {result.round}: {who}{more}, since the median client of the round has "
                f"{weighting.median if shown else 'far fewer'} (--max-client-weight)",
            )
        answered = [cid for cid in weighting.weights if self._answered(result, phase, cid)]
        heaviest = None if self._robust else weighting.heaviest(answered)  # else nobody's weight decides
        # Of two clients one has always the larger part: that is news where it is nearly all.
        if heaviest and heaviest[1] > {1: 1.0, 2: NEARLY_ALL}.get(len(answered), MAJORITY):
            cid, share = heaviest
            who = f"client {cid} carries {100 * share:.3g} %" if shown else "one client carries more than half"
            self._recorder.warn(
                result.round,
                "weight",
                f"round {result.round}: {who} of the clients' weight in {phase}, so that the result is mostly its own; "
                "--client-weights uniform counts all alike",
            )

    def _answered(self, result: RoundResult, phase: str, cid: int) -> bool:
        if not self._shows_clients:
            return cid not in result.failures
        return any(row["phase"] == phase and row["client"] == str(cid) for row in result.rows)

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
