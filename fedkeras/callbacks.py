"""What hangs on a run: a callback is told what happens, and may end the run after a round.

The recorder, the live view, the checkpointer, Ctrl-C, early stopping are callbacks; a workflow knows none of them by
name. The hooks are pfl-research's and Keras' in spirit: one class, all hooks, each does nothing unless overridden.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from fedkeras.workflows.base import RunContext

Row = Mapping[str, int | float | str]
"""A line of history.csv."""


class FinishedRound(Protocol):
    """What callbacks look at of a round. `round` 0 is the evaluation of the initial model."""

    round: int
    num_rounds: int
    rows: list[dict]
    """Lines of history.csv, those of `all` and `server` among them."""
    failures: Mapping[int, str]
    """cid -> reason."""
    left_out: Mapping[int, str]
    """cid -> reason, of those whose work does not count though they have not failed: they were late."""
    timing: Mapping[str, float]
    """Seconds by part of the round."""
    seconds: float
    """Wall time."""
    asked: int
    """Clients in the cohort."""
    answered: int
    """Clients that gave a good answer."""


class Callback:
    """Does nothing: override what is wanted. Called from the workflow's own thread, which it must not hold up."""

    def on_run_begin(self, run: "RunContext") -> None:
        """Training is about to begin, or to go on."""

    def on_clients(self, connected: Collection[int], needed: int) -> None:
        """These clients are connected, of so many that are waited for."""

    def on_round_begin(self, server_round: int) -> bool:
        """A round is about to begin. True: it must not, nor any after it."""
        return False

    def on_phase_begin(
        self, server_round: int, phase: str, cohort: Mapping[int, int], suspended: Collection[int]
    ) -> None:
        """A phase (train or evaluate) of a round, or of its repetition, begins: who is asked, and who is suspended.

        `cohort` is {cid: node id}.
        """

    def on_client_result(self, cid: int, row: Row) -> None:
        """A client's good answer has arrived: its line of history.csv."""

    def on_client_failure(self, cid: int, reason: str) -> None:
        """A client gives no good answer in this phase."""

    def on_client_left_out(self, cid: int, reason: str) -> None:
        """A client's work does not count in this phase, and that is no failure: it was late, or others were faster.

        Its answer may have been told of before.
        """

    def on_round_end(self, result: FinishedRound) -> bool:
        """A round is over. True: it was the last one, whatever the configuration says."""
        return False

    def on_checkpoint(self, server_round: int, on_disk: bool) -> None:
        """A checkpoint of this round begins to be written, or, later, is on the disk whole; of one that could not be
        written nothing more is said."""

    def on_rounds_end(self) -> None:
        """No other round follows: all are done, a callback ended the run, or one failed."""

    def on_run_end(self, summary: Mapping[str, object]) -> None:
        """The run has come to its end; `summary` is that of summary.json, whose status is finished or diverged."""


class Callbacks(Callback):
    """Several callbacks as one, called in their order."""

    def __init__(self, callbacks: Iterable[Callback] = ()) -> None:
        self._callbacks = list(callbacks)

    def insert(self, callback: Callback) -> None:
        """Another one, called before those that are there."""
        self._callbacks.insert(0, callback)

    def __iter__(self) -> Iterator[Callback]:
        return iter(self._callbacks)

    def on_run_begin(self, run: "RunContext") -> None:
        for callback in self:
            callback.on_run_begin(run)

    def on_clients(self, connected: Collection[int], needed: int) -> None:
        for callback in self:
            callback.on_clients(connected, needed)

    def on_round_begin(self, server_round: int) -> bool:
        return any([callback.on_round_begin(server_round) for callback in self])  # noqa: C419 - a list: all are told

    def on_phase_begin(
        self, server_round: int, phase: str, cohort: Mapping[int, int], suspended: Collection[int]
    ) -> None:
        for callback in self:
            callback.on_phase_begin(server_round, phase, cohort, suspended)

    def on_client_result(self, cid: int, row: Row) -> None:
        for callback in self:
            callback.on_client_result(cid, row)

    def on_client_failure(self, cid: int, reason: str) -> None:
        for callback in self:
            callback.on_client_failure(cid, reason)

    def on_client_left_out(self, cid: int, reason: str) -> None:
        for callback in self:
            callback.on_client_left_out(cid, reason)

    def on_round_end(self, result: FinishedRound) -> bool:
        return any([callback.on_round_end(result) for callback in self])  # noqa: C419 - a list: all are told

    def on_checkpoint(self, server_round: int, on_disk: bool) -> None:
        for callback in self:
            callback.on_checkpoint(server_round, on_disk)

    def on_rounds_end(self) -> None:
        for callback in self:
            callback.on_rounds_end()

    def on_run_end(self, summary: Mapping[str, object]) -> None:
        for callback in self:
            callback.on_run_end(summary)
