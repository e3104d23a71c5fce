"""Rounds, checkpoints and resumption together, in one process: what is kept, and that a run goes on from it."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from bare_runs import run_rounds
from toy_federation import ToyClients, Weights, configure, content, floats

from fedkeras.callbacks import Callback
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.records import record, views
from fedkeras.federation.registry import load
from fedkeras.federation.strategy_state import StrategyState
from fedkeras.reports import Recorder, RunFolder, create_run_folder, read_rows
from fedkeras.reports.checkpoints import path_of, rounds_of
from fedkeras.runtime.in_process import InProcessGrid
from fedkeras.workflows import checkpointer

START = floats(a=[[0.1, -0.2], [0.3, 0.7]], b=[0.5])


def train(cid: int, server_round: int, weights: Weights, config: dict):
    """Client 2 fails in round 1."""
    if (cid, server_round) == (2, 1):
        raise ValueError("out of memory")
    return content({name: array * 0.9 + (cid + 1) / 7 for name, array in weights.items()}, cid + 1, loss=float(cid))


class Told(Callback):
    """What is said of checkpoints."""

    def __init__(self) -> None:
        self.begun, self.on_disk = [], []

    def on_checkpoint(self, server_round: int, on_disk: bool) -> None:
        (self.on_disk if on_disk else self.begun).append(server_round)


def go(
    folder: RunFolder, rounds: int, resume: bool = False, stop_in: int = 0, told=None, **fields
) -> tuple[Weights, ToyClients]:
    """One part of a run, as server.py makes it."""
    settings = {"strategy": "fedadam", "num_server_rounds": rounds, "rest_after": 1, "rest_rounds": 3, **fields}
    config = configure(**settings, resume=str(folder.path) if resume else "")
    strategy, clients, asked = load("fedadam", {"beta_1": 0.9}), ToyClients(train=train), []
    memory = StrategyState(strategy)
    last = checkpointer.take_up(folder, config, memory) if resume else None
    weights = checkpointer.client_weights_at(config, last, True)
    rests, start = checkpointer.failures_at(config, last), record(last.weights if last else START)
    grid = InProcessGrid(clients, config.num_partitions, {})
    with (
        Recorder(folder, config, live=False) as recorder,
        checkpointer.Checkpointer(folder, config, memory, rests, recorder, weights) as keeper,
    ):
        hung = SimpleNamespace(trainable=None, grid=SimpleNamespace(holders=dict), callbacks=told or Told())
        keeper.on_run_begin(hung)
        callbacks = [recorder, keeper, lambda outcome: asked.append(outcome.round)]
        final = run_rounds(
            strategy, grid, ClientManager(grid, config), start, config, None, callbacks,
            first_round=(last.round if last else 0) + 1, failures=rests, stop=lambda: stop_in in asked,
            client_weights=weights,
        )  # fmt: skip
        keeper.on_run_end({})
        keeper.on_run_end({})  # twice is once
    return views(final), clients


@pytest.fixture
def new(tmp_path: Path) -> Callable[[], RunFolder]:
    return lambda: create_run_folder(tmp_path, "x", configure())


def figures(folder: RunFolder) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_rows(folder.history_path)]


def same(left: Weights, right: Weights) -> bool:
    return {name: a.tobytes() for name, a in left.items()} == {name: a.tobytes() for name, a in right.items()}


def test_who_rests_goes_on_resting_after_a_resumption(new) -> None:
    whole, parts = new(), new()
    expected, undisturbed = go(whole, 6)
    assert [undisturbed.trained(number) for number in range(1, 7)] == [[0, 1, 2]] + [[0, 1]] * 3 + [[0, 1, 2]] * 2
    for rounds in (1, 3, 4):
        go(parts, rounds, resume=rounds > 1)
    final, clients = go(parts, 6, resume=True)
    assert clients.trained(5) == [0, 1, 2] and clients.trained(4) == []
    assert same(final, expected) and figures(parts) == figures(whole)


@pytest.mark.parametrize(
    ("every", "rounds", "stop_in", "expected"),
    [(1, 4, 0, [1, 2, 3, 4]), (2, 5, 0, [2, 4, 5]), (0, 3, 0, []), (100, 5, 2, [2]), (2, 5, 2, [2]), (0, 5, 2, [])],
)
def test_when_a_checkpoint_is_made(new, every, rounds, stop_in, expected) -> None:
    """Every so many rounds, after the last, and before an early end."""
    folder = new()
    go(folder, rounds, stop_in=stop_in, checkpoint_every=every, keep_checkpoints=9)
    assert rounds_of(folder) == expected


def test_callbacks_are_told_what_is_on_the_disk(new) -> None:
    folder, told = new(), Told()
    go(folder, 4, told=told)
    assert told.begun == [1, 2, 3, 4] and told.on_disk == [1, 2, 3]


def test_callbacks_are_told_nothing_more_of_a_checkpoint_that_fails(new) -> None:
    folder, told = new(), Told()
    folder.checkpoints_path.write_text("no folder")
    go(folder, 3, told=told)
    assert told.begun == [1, 2, 3] and told.on_disk == []


def test_falling_back_computes_the_lost_rounds_again(new) -> None:
    whole, parts = new(), new()
    expected, _ = go(whole, 5)
    go(parts, 4)
    path_of(parts, 4).write_bytes(b"nothing")
    final, clients = go(parts, 5, resume=True)
    assert clients.trained(4) and not clients.trained(3)
    assert same(final, expected) and figures(parts) == figures(whole)


def test_a_run_that_is_through_but_for_its_model_has_no_round_left(new) -> None:
    folder = new()
    expected, _ = go(folder, 3)
    before = figures(folder)
    final, clients = go(folder, 3, resume=True)
    assert not clients.log and same(final, expected) and figures(folder) == before
