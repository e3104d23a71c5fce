"""What is particular about a server-led run when it is assembled: what it hands out, its name, what it tests."""

from pathlib import Path

from fedkeras.assembly import CentralEvaluation
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.handout import lead
from fedkeras.handout.central import TableEvaluation
from fedkeras.handout.lead import Given
from fedkeras.reports import RunFolder


def open_given(config: Config) -> Given | None:
    """What is handed out, checked; None in an ordinary run. Raises UserError, for flags that make no sense too.

    Called before anything in the folder of a run that is resumed has been changed.
    """
    if config.resume and (config.collect_only or config.mode == "collect"):
        raise UserError(
            f"--resume is for rounds, and {config.resume} is a run that collects. What has arrived lies in its folder "
            "clients; what clients still hold is taken by --collect-only (and client.py --deliver); python -m fedkeras "
            "aggregate combines model files. Or start a new run"
        )
    if config.data_source:
        if config.split != "off":
            raise UserError("--split is not for --data-source: its clients have a part of the model each")
        if config.mode != "collect" and config.method != "fit":
            raise UserError("--method kfold trains once and not by rounds: it needs --mode collect")
        return lead.open_given(config)
    for name in ("target", "share", "mode", "method"):
        if getattr(config, name) != getattr(Config(), name):
            raise UserError(f"--{name} is for server-led training: add --data-source server, client or keras")
    return None


def is_tested_centrally(config: Config, given: Given | None) -> bool:
    """True if there is a central test set for the rounds: a data set's, or X_test and Y_test."""
    rounds = config.mode == "federated" and not config.collect_only
    there = given.test is not None if given and config.data_source != "keras" else True
    return config.central_evaluation and there and rounds


def central(
    config: Config, given: Given | None, folder: RunFolder, threads: int, otherwise: CentralEvaluation
) -> CentralEvaluation:
    """What tests on the server: on tables where there are some, else `otherwise`."""
    return otherwise if given is None or given.test is None else TableEvaluation(config, given.test, folder, threads)


def bar(config: Config) -> bool | None:
    """False where there are no rounds for a progress bar to count; None: where stdout is a terminal."""
    return False if config.collect_only or config.mode == "collect" else None


def name(config: Config) -> str:
    """The last part of the run folder's name; "" for an ordinary run's."""
    if config.collect_only:
        return "collected"
    if not config.data_source:
        return ""
    what = config.dataset if config.data_source == "keras" else Path(config.model).stem
    return f"{what}-{config.strategy if config.mode == 'federated' else 'collect'}"
