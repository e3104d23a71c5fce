"""--stop-after: when the rounds end, which model is kept, and that a run that was taken up decides the same."""

import dataclasses
from pathlib import Path

import pytest
from bare_runs import run_of
from toy_federation import ToyClients, configure, content, floats

from fedkeras.errors import UserError
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.client_weights import ClientWeights
from fedkeras.federation.records import record, views
from fedkeras.federation.registry import load
from fedkeras.federation.strategy_state import StrategyState
from fedkeras.reports import Recorder, RunFolder, create_run_folder
from fedkeras.reports.checkpoints import rounds_of
from fedkeras.runtime.in_process import InProcessGrid
from fedkeras.workflows import checkpointer
from fedkeras.workflows.base import workflow_of
from fedkeras.workflows.early_stopping import EarlyStopping
from fedkeras.workflows.flag_checks import check_flags
from fedkeras.workflows.rounds.server import RoundsWorkflow

LOSSES = {1: 0.9, 2: 0.5, 3: 0.7, 4: float("nan"), 5: 0.5, 6: 0.4, 7: 0.4}
"""By round, of the central test set: the weights are the round's number."""


def train(cid: int, server_round: int, weights: dict, config: dict):
    return content({name: array + 1 for name, array in weights.items()}, 1, loss=1.0)


def go(folder: RunFolder, patience: int, rounds: int = 7, resume: bool = False):
    """One part of a run; the kept weights, the rounds that were done in it, and the callback."""
    config = configure(
        strategy="fedavg", num_server_rounds=rounds, stop_after=patience, keep_checkpoints=1, fraction_evaluate=0.0,
        resume=str(folder.path) if resume else "",
    )  # fmt: skip
    strategy, done = load("fedavg", {}), []
    memory, grid = StrategyState(strategy), InProcessGrid(ToyClients(train=train), config.num_partitions, {})
    start = checkpointer.take_up(folder, config, memory) if resume else None
    stopping, failures = EarlyStopping(folder, patience), checkpointer.failures_at(config, start)
    with (
        Recorder(folder, config, live=False) as recorder,
        checkpointer.Checkpointer(folder, config, memory, failures, recorder, ClientWeights(config)) as keeper,
    ):
        run = run_of(
            grid, config, strategy, [recorder, stopping, keeper, lambda result: done.append(result.round)],
            clients=ClientManager(grid, config), failures=failures,
            evaluate_fn=lambda number, _: {"loss": LOSSES[number], "num-examples": 1} if number else None,
        )  # fmt: skip
        stopping.on_run_begin(dataclasses.replace(run, start=start))
        arrays = record(start.weights if start else floats(w=[0.0]))
        first = (start.round if start else 0) + 1
        last = arrays if stopping.stopped else RoundsWorkflow().train(run, arrays, first)
        keeper.on_run_end({})
    return views(stopping.kept(last))["w"].tolist(), done, stopping


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return create_run_folder(tmp_path, "x", configure())


@pytest.mark.parametrize(
    ("patience", "rounds", "kept", "best"),
    [(1, [1, 2, 3], 2.0, 2), (2, [1, 2, 3, 4], 2.0, 2), (4, [1, 2, 3, 4, 5, 6, 7], 6.0, 6)],
    ids=["the first worse one", "a loss that is none is no better one", "an equal one is no better one"],
)
def test_rounds_end_without_a_better_loss_and_the_best_model_is_kept(folder, patience, rounds, kept, best) -> None:
    weights, done, stopping = go(folder, patience)
    assert (weights, done, stopping.best_round) == ([kept], rounds, best)
    assert stopping.stopped == (len(rounds) < 7)
    assert best in rounds_of(folder), "its checkpoint is kept beside the newest"


def test_a_run_that_was_taken_up_ends_and_keeps_as_if_it_had_not_been(folder) -> None:
    go(folder, 3, rounds=3)
    weights, done, stopping = go(folder, 3, rounds=7, resume=True)
    assert (weights, done, stopping.best_round) == ([2.0], [4, 5], 2)
    weights, done, _ = go(folder, 3, rounds=7, resume=True)
    assert (weights, done) == ([2.0], []), "once more: it had come to its end"


def test_the_best_round_may_be_the_one_in_which_the_run_is_taken_up(folder) -> None:
    go(folder, 2, rounds=2)
    weights, done, stopping = go(folder, 2, rounds=7, resume=True)
    assert (weights, done, stopping.best_round) == ([2.0], [3, 4], 2)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"split": "shared"}, "clients keep their parts"),
        ({"mode": "collect", "data_source": "keras"}, "--patience"),
        ({"checkpoint_every": 5}, "--checkpoint-every is 1"),
    ],
)
def test_what_it_does_not_go_with(fields, line) -> None:
    config = configure(stop_after=2, **fields)
    with pytest.raises(UserError, match=line):
        check_flags(workflow_of(config), config)
