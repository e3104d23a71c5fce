"""The callback between rounds and checkpoints: what a run is made of is kept after a round, and taken up again."""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from fedkeras.callbacks import Callback, FinishedRound
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation.client_weights import ClientWeights
from fedkeras.federation.records import views
from fedkeras.federation.round_result import RoundResult
from fedkeras.federation.sampling import FailureTracker
from fedkeras.federation.strategy_state import StrategyState
from fedkeras.reports import Checkpoint, Checkpoints, Recorder, RunFolder, read_rows, resuming
from fedkeras.reports.summary import versions
from fedkeras.runtime.own_grid import HoldersTable
from fedkeras.workflows.interruption import StopRequested

if TYPE_CHECKING:
    from fedkeras.workflows.base import RunContext


def take_up(folder: RunFolder, config: Config, state: StrategyState) -> Checkpoint | None:
    """Take a run and its strategy back to its newest whole checkpoint; None: to its start. Raises UserError."""
    checkpoint = resuming.find(folder, config)
    if checkpoint is not None:
        state.restore(checkpoint.strategy_arrays, checkpoint.strategy)  # may refuse, and then nothing has changed
    resuming.go_back(folder, config, checkpoint)
    return checkpoint


def failures_at(config: Config, checkpoint: Checkpoint | None) -> FailureTracker:
    """Who has failed in a row and is suspended, as it was at the checkpoint. Raises UserError."""
    try:
        return FailureTracker.from_table(config, checkpoint.failure_tracker if checkpoint else {})
    except ValueError as error:
        raise UserError(f"--resume: the checkpoint is of another version: {error}") from error


def client_weights_at(config: Config, checkpoint: Checkpoint | None, fixed_counts: bool) -> ClientWeights:
    """The policy, with what clients had said of their examples at the checkpoint. Raises UserError."""
    weights = ClientWeights(config, fixed_counts)
    try:
        weights.restore(checkpoint.client_examples if checkpoint else {})
    except ValueError as error:
        raise UserError(f"--resume: the checkpoint is of another version: {error}") from error
    return weights


class Checkpointer(Callback):
    """Makes a checkpoint after a round when one is due, after the last round, and before an early end.

    As a context manager: leaving waits until the last one is written.
    """

    def __init__(
        self, folder: RunFolder, config: Config, state: StrategyState, failures: FailureTracker, recorder: Recorder,
        client_weights: ClientWeights,
    ) -> None:  # fmt: skip
        self._config, self._state, self._failures, self._recorder = config, state, failures, recorder
        self._client_weights = client_weights
        self._checkpoints = Checkpoints(
            folder, config.keep_checkpoints, read_rows(folder.history_path), by_loss=config.stop_after > 0
        )
        self._settings, self._versions = config.to_run_config() | {"resume": "", "release": ""}, versions()
        self._trainable: tuple[str, ...] | None = None
        self._holders: Callable[[], HoldersTable] = dict
        self._last: RoundResult | None = None
        self._kept: RoundResult | None = None
        self._told = -1
        self._callbacks: Callback = Callback()

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        try:
            if kind is not None and issubclass(kind, StopRequested):
                self._keep_last()
        finally:
            self._checkpoints.wait()

    def on_run_begin(self, run: "RunContext") -> None:
        """Which arrays are trained is known by now."""
        self._trainable, self._holders, self._callbacks = run.trainable, run.grid.holders, run.callbacks

    def on_round_end(self, result: FinishedRound) -> bool:
        """Look at a round that has been recorded; a run that collects has no global arrays, and nothing to keep."""
        assert isinstance(result, RoundResult)
        if result.arrays is None:
            return False
        self._last = result
        self._tell_of_written()
        every = self._config.checkpoint_every
        if every and (result.round % every == 0 or result.round == self._config.num_server_rounds):
            self._keep(result)
        return False

    def on_run_end(self, summary: Mapping[str, object]) -> None:
        """A callback may have ended the run before its time."""
        self._keep_last()

    def _keep_last(self) -> None:
        """Keep the last round, unless that is done or the run makes no checkpoints."""
        if self._config.checkpoint_every and self._last is not None and self._last is not self._kept:
            self._keep(self._last)

    def _tell_of_written(self) -> None:
        """What the thread that writes has done is told from the workflow's own."""
        if self._checkpoints.written != self._told:
            self._told = self._checkpoints.written
            self._callbacks.on_checkpoint(self._told, on_disk=True)

    def _keep(self, result: RoundResult) -> None:
        self._checkpoints.wait()
        self._tell_of_written()
        self._kept = result
        self._callbacks.on_checkpoint(result.round, on_disk=False)
        state = self._state.snapshot()
        checkpoint = Checkpoint(
            round=result.round,
            weights=views(result.arrays),
            strategy_arrays=state.arrays,
            strategy=state.table,
            trainable=self._trainable,
            failure_tracker=self._failures.table(),
            client_examples=self._client_weights.table(),
            holders=self._holders(),
            history_rows=self._recorder.history_rows,
            seconds=self._recorder.seconds,
            config=self._settings,
            versions=self._versions,
        )
        self._checkpoints.save(checkpoint, result.rows)
