"""Between the round loop and the checkpoints: what a run is made of, kept after a round and taken up again."""

from flwr.app import ArrayRecord

from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation import records
from fedkeras.federation.round_result import RoundResult
from fedkeras.federation.sampling import FailureTracker
from fedkeras.federation.strategy_state import StrategyState
from fedkeras.reports import Checkpoint, Checkpoints, Recorder, RunFolder, read_rows, resuming
from fedkeras.reports.summary import versions


def take_up(folder: RunFolder, config: Config, memory: StrategyState) -> Checkpoint | None:
    """Take a run and its strategy back to its newest whole checkpoint; None: to its start. Raises UserError."""
    checkpoint = resuming.find(folder, config)
    if checkpoint is not None:
        memory.restore(checkpoint.strategy_arrays, checkpoint.strategy)  # may refuse, and then nothing has changed
    resuming.go_back(folder, config, checkpoint)
    return checkpoint


def weights_of(checkpoint: Checkpoint) -> ArrayRecord:
    """The global weights as the round loop takes them."""
    return records.record(checkpoint.weights)


class Checkpointer:
    """Called after each round: makes a checkpoint when one is due, after the last round, and before an early end.

    As a context manager: leaving waits until the last one is written.
    """

    def __init__(
        self, folder: RunFolder, config: Config, memory: StrategyState, rests: FailureTracker, recorder: Recorder
    ) -> None:
        self._config, self._memory, self._rests, self._recorder = config, memory, rests, recorder
        self._checkpoints = Checkpoints(folder, config.keep_checkpoints, read_rows(folder.history_path))
        self._settings, self._versions = config.to_run_config() | {"resume": ""}, versions()
        self._last: RoundResult | None = None
        self._kept: RoundResult | None = None

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, *_: object) -> None:
        self._checkpoints.wait()

    def __call__(self, outcome: RoundResult) -> None:
        """Look at a round that has been recorded."""
        self._last = outcome
        every = self._config.checkpoint_every
        if every and (outcome.round % every == 0 or outcome.round == self._config.num_server_rounds):
            self._keep(outcome)

    def rounds_left(self) -> bool:
        """True if the run is not through."""
        return self._last is None or self._last.round < self._config.num_server_rounds

    def before_end(self) -> None:
        """Keep the last round, unless that is done or the run makes no checkpoints."""
        if self._config.checkpoint_every and self._last is not None and self._last is not self._kept:
            self._keep(self._last)

    def _keep(self, outcome: RoundResult) -> None:
        self._kept = outcome
        state = self._memory.state_of()
        checkpoint = Checkpoint(
            round=outcome.round,
            weights=records.views(outcome.arrays),
            strategy_arrays=state.arrays,
            strategy=state.table,
            rests=self._rests.table(),
            history_rows=self._recorder.history_rows,
            seconds=self._recorder.seconds,
            config=self._settings,
            versions=self._versions,
        )
        self._checkpoints.save(checkpoint, outcome.rows)


def rests_of(config: Config, checkpoint: Checkpoint | None) -> FailureTracker:
    """Who has failed in a row and rests, as it was at the checkpoint. Raises UserError."""
    try:
        return FailureTracker.from_table(config, checkpoint.rests if checkpoint else {})
    except ValueError as error:
        raise UserError(f"--resume: the checkpoint is of another version: {error}") from error
