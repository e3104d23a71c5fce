"""`--resume RUN_DIR`: a run's folder as it was left, with its settings, ready to go on after its newest checkpoint."""

import dataclasses
import itertools
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fedkeras.config import Config, flag
from fedkeras.errors import UserError
from fedkeras.reports.checkpoints import Checkpoint, newest_checkpoint
from fedkeras.reports.history import FAILURES, TIMING, count_rows, cut_rows
from fedkeras.reports.run_folder import RunFolder, held
from fedkeras.reports.summary import versions

log = logging.getLogger(__name__)

MAY_CHANGE = (
    "data-dir", "num-server-rounds", "min-available-nodes", "min-results", "max-retries", "node-timeout",
    "round-timeout", "reconnect-grace", "checkpoint-every", "keep-checkpoints", "passphrase-file", "tls-cert",
    "tls-key", "tls-client-ca", "insecure", "host", "port", "max-message-mb", "spawn", "tensorboard", "mlflow",
)  # fmt: skip
"""What may differ when a run goes on: how long it is, who waits how long, where things are. Not what a round gives."""


def settings(config: Config, typed: Callable[[Config], Config]) -> Config:
    """The configuration to run with: `config` itself, or with --resume that of the run, under what was typed besides.

    `typed(saved)` reads the same flags again with the run's settings as defaults. The result has `resume` set to the
    run's folder. Raises UserError if there is no such run, or a flag would change what it computes.
    """
    if not config.resume:
        return config
    folder = RunFolder(Path(config.resume))
    saved = saved_config(folder)
    wanted = typed(saved)
    for field in dataclasses.fields(Config):
        name = flag(field.name)
        if name not in (*MAY_CHANGE, "resume") and getattr(wanted, field.name) != getattr(saved, field.name):
            raise UserError(
                f"--resume keeps the run's settings: --{name} cannot be changed "
                f"(it is '{getattr(saved, field.name)}' in {folder.config_path})"
            )
    return dataclasses.replace(wanted, resume=config.resume)


def from_flags(args: Sequence[str] | None = None, prog: str = "server.py") -> Config:
    """`Config.from_flags`, where --resume makes the run's settings the defaults of all other flags."""
    run = _run_named_in(sys.argv[1:] if args is None else args)
    if not run:
        return Config.from_flags(args, prog)
    return settings(Config(resume=run), lambda saved: Config.from_flags(args, prog, saved))


def from_run_config(table: Mapping) -> Config:
    """`Config.from_run_config` under Flower's runtime, with resume.

    Flower merges the defaults in: a key at its default counts as not given. Raises UserError, for relative paths too.
    """
    config = Config.from_run_config(table).require_absolute_paths()
    default = dataclasses.asdict(Config())
    given = {name: value for name, value in dataclasses.asdict(config).items() if value != default[name]}
    return settings(config, lambda saved: dataclasses.replace(saved, **given)).require_absolute_paths()


def saved_config(folder: RunFolder) -> Config:
    """The run's config.json. Raises UserError if there is none, or none that can be read."""
    try:
        table = json.loads(folder.config_path.read_text())
        if not isinstance(table, dict):
            raise ValueError("it is no table")
    except FileNotFoundError:
        raise UserError(f"--resume: there is no {folder.config_path}; is this the folder of a run?") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"--resume: {folder.config_path} cannot be read: {why}; start a new run") from error
    return Config.from_run_config(table)


def already_finished(config: Config) -> bool:
    """True, and said, if the run to resume has come to its end and is not to go on for more rounds."""
    if not config.resume:
        return False
    folder = RunFolder(Path(config.resume))
    try:
        summary = json.loads(folder.summary_path.read_text())
        if summary["status"] != "finished" or summary["rounds"] < config.num_server_rounds:
            return False
    except (OSError, ValueError, KeyError, TypeError):
        return False
    print(f"the run is finished; for more than its {summary['rounds']} rounds raise --num-server-rounds")
    print(folder.path, flush=True)
    return True


def keep_settings(config: Config) -> None:
    """Write the settings that go on into the run's config.json. Raises UserError if a server is at the run."""
    folder = RunFolder(Path(config.resume))
    with held(folder):
        folder.write_config(dataclasses.replace(config, resume=""))


def find(folder: RunFolder, config: Config) -> Checkpoint | None:
    """The newest whole checkpoint of a run that is to go on; None: it begins again. Changes nothing.

    Raises UserError where no checkpoint is whole, where the run made none, or more rounds are done than wanted.
    """
    checkpoint = newest_checkpoint(folder)
    if checkpoint is None:
        if count_rows(folder.history_path) and not saved_config(folder).checkpoint_every:
            raise UserError(f"{folder.path} has no checkpoint to resume from (--checkpoint-every 0); start a new run")
        log.warning("%s has no checkpoint yet: the run begins again with round 1", folder.path)
        return None
    if checkpoint.round > config.num_server_rounds:
        raise UserError(f"--num-server-rounds is {config.num_server_rounds}, but round {checkpoint.round} is done")
    _compare(checkpoint.versions)
    return checkpoint


def go_back(folder: RunFolder, config: Config, checkpoint: Checkpoint | None) -> None:
    """Make the folder what it was at this checkpoint (None: at the start): later rows of history.csv are cut off.

    config.json takes the settings that go on.
    """
    folder.write_config(dataclasses.replace(config, resume=""))
    cut_rows(folder.history_path, checkpoint.history_rows if checkpoint else 0)
    for table, path in ((FAILURES, folder.failures_path), (TIMING, folder.timing_path)):
        table.cut(path, checkpoint.round if checkpoint else 0)
    for path in (folder.summary_path, folder.predictions_path):
        path.unlink(missing_ok=True)  # they tell of an end that is none any more


def _run_named_in(args: Sequence[str]) -> str:
    """The value of --resume, looked for before the flags are read, whose defaults it decides."""
    run = ""
    for word, following in itertools.pairwise([*args, ""]):
        if word == "--resume":
            run = "" if following.startswith("--") else following
        elif word.startswith("--resume="):
            run = word.removeprefix("--resume=")
    return run


def _compare(then: Mapping[str, str]) -> None:
    now = versions()
    other = [f"{name} {then[name]} (now {now[name]})" for name in now if name in then and then[name] != now[name]]
    if other:
        log.warning("the run was begun with %s: its figures may differ in the last digits", ", ".join(other))
