"""Ctrl-C: once lets the round under way finish, and where none is under way it ends at once."""

import dataclasses
import os
import signal
from types import SimpleNamespace

import pytest

from fedkeras.callbacks import Callback
from fedkeras.config import Config
from fedkeras.errors import RunFailed
from fedkeras.federation.round_result import RoundResult
from fedkeras.runtime.in_process import InProcessGrid
from fedkeras.workflows.base import workflow_of
from fedkeras.workflows.interruption import Interruption, StopRequested
from fedkeras.workflows.round_loop import repeat_rounds
from fedkeras.workflows.run_setup import bare_run, open_run

CONFIG = Config(num_partitions=1, num_server_rounds=3, central_evaluation=False)
BEGUN = SimpleNamespace(config=CONFIG, start=None)


@pytest.fixture
def interruption():
    """Watching; afterwards signals are handled as before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    made = Interruption()
    made.watch()
    yield made
    for number, handler in before.items():
        signal.signal(number, handler)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def rounds(interruption, one_round, *others):
    run = bare_run(InProcessGrid(None, 1, {}), CONFIG, SimpleNamespace(), callbacks=[*others, interruption])
    run.callbacks.on_run_begin(BEGUN)
    return repeat_rounds(run, one_round, None, 1)


def test_once_lets_the_round_finish_and_twice_does_not_wait(interruption, capsys):
    done = []

    def one_round(run, arrays, server_round, failed):
        if server_round == 2:
            interrupt()
        done.append(server_round)
        return RoundResult(server_round, 3)

    with pytest.raises(StopRequested):
        rounds(interruption, one_round)
    assert done == [1, 2] and "finishing round 2, then a checkpoint" in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_after_a_failed_round_none_is_under_way(interruption):
    def one_round(run, arrays, server_round, failed):
        raise RunFailed("nobody answers")

    with pytest.raises(RunFailed):
        rounds(interruption, one_round)
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_after_a_callback_has_ended_the_run_none_is_under_way(interruption):
    class Ends(Callback):
        def on_round_end(self, result):
            return result.round == 1

    rounds(interruption, lambda run, arrays, server_round, failed: RoundResult(server_round, 3), Ends())
    with pytest.raises(KeyboardInterrupt):
        interrupt()


@pytest.mark.parametrize("fields", [{}, {"collect_only": True}])
def test_only_rounds_are_waited_for(interruption, tmp_path, monkeypatch, fields):
    """A run that collects may take hours, and has no checkpoint at its end."""
    monkeypatch.setattr(
        "fedkeras.factory.CentralEvaluation.choices", lambda central, knows_source: {}
    )  # no model is needed
    config = dataclasses.replace(CONFIG, **fields)
    with open_run(workflow_of(config), InProcessGrid(None, 1, {}), config, tmp_path, interruption=interruption) as run:
        assert (interruption in list(run.callbacks)) == (not fields)
        run.finish()
