"""What is particular about a server-led run when it is assembled: what it hands out, its name, what it tests."""

from pathlib import Path

from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.handout import lead
from fedkeras.handout.lead import Given


def open_given(config: Config) -> Given | None:
    """What is handed out, checked; None in an ordinary run. Raises UserError, for flags that make no sense too."""
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


def is_tested_centrally(config: Config) -> bool:
    """True if there is a central test set: of tables that are handed out there is none."""
    rounds = config.mode == "federated" and not config.collect_only
    return config.central_evaluation and config.data_source in ("", "keras") and rounds


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
