"""The callback of --stop-after: it ends rounds that bring no better loss, and keeps the best round's model."""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flwr.app import ArrayRecord

from fedkeras.callbacks import Callback, FinishedRound, Row
from fedkeras.federation.records import record
from fedkeras.federation.round_result import RoundResult
from fedkeras.reports import RunFolder, checkpoints, read_rows
from fedkeras.reports.headline import choose_headline, finite
from fedkeras.reports.history import AGGREGATES

if TYPE_CHECKING:
    from fedkeras.workflows.base import RunContext

log = logging.getLogger("fedkeras")


class EarlyStopping(Callback):
    """Ends the rounds after `patience` of them without a better loss: the central one, else the clients' mean.

    What the test set decides here flatters the figures of the chosen round: they are no test of it any more.
    """

    def __init__(self, folder: RunFolder, patience: int) -> None:
        self._folder, self._patience = folder, patience
        self._rows: list[Row] = []
        self._best: tuple[float, int] | None = None
        self._arrays: ArrayRecord | None = None
        """The best round's; None: no round had a loss."""
        self.stopped = False

    @property
    def best_round(self) -> int | None:
        """The round of the lowest loss."""
        return self._best[1] if self._best else None

    def on_run_begin(self, run: "RunContext") -> None:
        """Of a run that goes on: what its history and its checkpoints say."""
        done = run.start.round if run.start else 0
        self._add(read_rows(self._folder.history_path))
        kept = set(checkpoints.rounds_of(self._folder))
        for number, loss in self._losses():
            if number <= done and number in kept:
                self._take(number, loss)
        if self._best is not None:
            try:
                weights = checkpoints.read(checkpoints.path_of(self._folder, self._best[1])).weights
                self._arrays = record(dict(weights))
            except checkpoints.Damaged as error:
                log.warning("the model of round %d cannot be kept: its checkpoint %s", self._best[1], error)
                self._best = None
        self.stopped = self._is_over(done)

    def on_round_end(self, result: FinishedRound) -> bool:
        """True after so many rounds without a better loss."""
        assert isinstance(result, RoundResult)
        self._add(result.rows)
        if self._take(result.round, dict(self._losses()).get(result.round)):
            self._arrays = result.arrays
        self.stopped = self._is_over(result.round)
        if self.stopped:
            said = f"no better loss since round {self._best[1]}, whose model is kept: no further rounds"
            log.info("round %d: %s", result.round, said)
            print(said, flush=True)
        return self.stopped

    def kept(self, last: ArrayRecord) -> ArrayRecord:
        """The best round's arrays; the last round's where no round had a loss."""
        return last if self._arrays is None else self._arrays

    def _add(self, rows: Iterable[Row]) -> None:
        self._rows += [row for row in rows if row["client"] in AGGREGATES and row["round"]]

    def _losses(self) -> list[tuple[int, float | None]]:
        """(round, loss) of the headline's rows, from round 1 on."""
        headline = choose_headline(self._rows)
        return [(row["round"], finite(row.get("loss"))) for row in headline.select(self._rows)] if headline else []

    def _take(self, number: int, loss: float | None) -> bool:
        if loss is None or (self._best is not None and loss >= self._best[0]):
            return False
        self._best = (loss, number)
        return True

    def _is_over(self, done: int) -> bool:
        return self._best is not None and done - self._best[1] >= self._patience
