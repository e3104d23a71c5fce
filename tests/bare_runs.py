"""Rounds without a folder: a strategy or split learning on any grid, with what a test wants to look at."""

import functools

from fedkeras.callbacks import Callback
from fedkeras.workflows.round_loop import repeat_rounds
from fedkeras.workflows.rounds.server import RoundsWorkflow
from fedkeras.workflows.run_setup import bare_run
from fedkeras.workflows.split import server as split


class Calls(Callback):
    """Calls a function with each round's result; ends the run if it returns True."""

    def __init__(self, function):
        self.function = function

    def on_round_end(self, result):
        return self.function(result) is True


def run_of(grid, config, strategy, callbacks=(), **own):
    """A RunContext; callbacks may be functions of a round's result."""
    hooks = [each if isinstance(each, Callback) else Calls(each) for each in callbacks]
    return bare_run(grid, config, strategy, callbacks=hooks, **own)


def run_rounds(strategy, grid, clients, arrays, config, evaluate=None, callbacks=(), first_round=1, stop=None, **own):
    """Federated rounds from `arrays` on; the last round's arrays. `stop()` is asked after the callbacks."""
    callbacks = [*callbacks, lambda result: stop()] if stop else callbacks
    run = run_of(grid, config, strategy, callbacks, clients=clients, evaluate_fn=evaluate, **own)
    return RoundsWorkflow().train(run, arrays, first_round)


def run_split(grid, clients, arrays, config, body, evaluate=None, callbacks=(), first_round=1, **own):
    """Split learning with this body on the server; the last round's arrays."""
    run = run_of(grid, config, None, callbacks, clients=clients, evaluate_fn=evaluate, **own)
    one_round = functools.partial(split.one_round, body, *split.message_config_of(run))
    return repeat_rounds(run, one_round, arrays, first_round)
