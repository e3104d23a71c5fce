"""The trials of a sweep: Optuna proposes values and prunes; every step is in a file before the next begins.

Values come from the tree-structured Parzen estimator (Bergstra et al. 2011, "Algorithms for Hyper-Parameter
Optimization"), whose random numbers depend on the seed and on how many trials have ended, and not on how often the
search was interrupted: one that was killed and goes on proposes what it would have proposed.
"""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from fedkeras.config import Value
from fedkeras.errors import UserError
from fedkeras.sweep.search_space import Alternatives, Range, Space

if TYPE_CHECKING:
    import optuna

FILE = "trials.log"
STARTUP_TRIALS = 5
"""Trials that are never pruned: there is no median worth the name before."""
WARMUP_ROUNDS = 1
"""Rounds after which no trial is pruned: the first says little."""

Report = Callable[[int, float], bool]
"""(round, the clients' accuracy) -> whether the trial is pruned."""
Objective = Callable[[dict[str, Value], Report], float | None]
"""Train with these values; the accuracy on the clients' held-out parts, or None if it was pruned on the way."""


def search(space: Space, trials: int, seed: int, folder: Path, objective: Objective, prune: bool = True) -> None:
    """Run trials until `trials` have ended, those of an earlier call included; one at a time.

    Raises UserError for fewer than one trial, or without Optuna. Whatever `objective` raises leaves its trial
    unfinished: the next call tries the same values again.
    """
    if trials < 1:
        raise UserError(f"--trials must be at least 1, not {trials}")
    optuna = _optuna()
    study = open_study(folder, prune)
    for left in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
        study.tell(left.number, state=optuna.trial.TrialState.FAIL)
    while (count := len(ended(study))) < trials:
        study.sampler = optuna.samplers.TPESampler(seed=seed * 1_000_003 % 2**31 + count)
        trial = study.ask()
        values = {name: _suggest(trial, name, one) for name, one in space.items()}

        def report(number: int, accuracy: float, trial: "optuna.Trial" = trial) -> bool:
            trial.report(accuracy, number)
            return trial.should_prune()

        accuracy = objective(values, report)
        if accuracy is None:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, accuracy)


def open_study(folder: Path, prune: bool = True) -> "optuna.Study":
    """The search in this folder, or a new one. Raises UserError without Optuna."""
    optuna = _optuna()
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    median = optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=WARMUP_ROUNDS)
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(folder / FILE))),
        study_name="sweep",
        direction="maximize",
        pruner=median if prune else optuna.pruners.NopPruner(),
        load_if_exists=True,
    )


def ended(study: "optuna.Study") -> "list[optuna.trial.FrozenTrial]":
    """Trials that are complete or pruned, in order."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED])


def _suggest(trial: "optuna.Trial", name: str, one: Alternatives | Range) -> Value:
    if isinstance(one, Alternatives):
        return trial.suggest_categorical(name, one.values)
    if isinstance(one.low, int):
        return trial.suggest_int(name, one.low, one.high, log=one.log)
    return trial.suggest_float(name, one.low, one.high, log=one.log)


def _optuna() -> ModuleType:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise UserError("sweep needs Optuna: pip install 'fedkeras[sweep]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def best(folder: Path) -> "optuna.trial.FrozenTrial":
    """The complete trial with the best accuracy. Raises UserError if none came to its end."""
    complete = [trial for trial in ended(open_study(folder)) if trial.state.name == "COMPLETE"]
    if not complete:
        raise UserError("no trial came to its end with a finite loss: there is no winner; search other values")
    return max(complete, key=lambda trial: trial.value)


def check_installed() -> None:
    """Raise UserError without Optuna."""
    _optuna()
