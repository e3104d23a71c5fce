"""`--resume RUN_DIR`: the folder of a run that ended early, made ready to go on after its newest checkpoint.

The run's settings are in its config.json. They are the defaults of all other flags, of which only those may differ that
leave the run's figures alone. So it is with `--evaluate RUN_DIR`, which tests a run's model in a folder of its own.
"""

import contextlib
import dataclasses
import itertools
import json
import logging
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from fedkeras.config import EVALUATION, RULES, RULES_NUMBER, RULES_SINCE, Config, fields_of, flag, settings_in
from fedkeras.errors import UserError
from fedkeras.fields import MAY_CHANGE, Value
from fedkeras.reports.checkpoints import Checkpoint, newest_checkpoint, newest_holders
from fedkeras.reports.divergence import DIVERGED, no_result
from fedkeras.reports.history import FAILURES, TIMING, WARNINGS, count_rows, cut_rows
from fedkeras.reports.run import LOCAL
from fedkeras.reports.run_folder import JsonTable, RunFolder, held
from fedkeras.reports.summary import versions

log = logging.getLogger(__name__)

OF_EVALUATION = fields_of(group=EVALUATION)
"""Fields of Config that say what is tested, and by whom."""

Read = Callable[[Sequence[str] | None, str, Config | None], Config]
"""Makes a configuration of flags: (the words, the command's name, the defaults)."""


def settings(config: Config, typed: Callable[[Config], Config]) -> Config:
    """The configuration to run with: `config` itself, or with --resume that of the run, under what was typed besides.

    `typed(saved)` reads the same flags again with the run's settings as defaults. The result has `resume` set to the
    run's folder. Raises UserError if there is no such run, or a flag would change what it computes.
    """
    if config.resume and config.evaluate:
        raise UserError("--resume goes on with a run, and --evaluate tests one: leave one of them out")
    if config.evaluate:
        return _settings_of_evaluation(config.evaluate, typed)
    if not config.resume:
        return config
    folder = RunFolder(Path(config.resume))
    saved = saved_config(folder)
    wanted = typed(saved)
    _require_kept(folder, saved, wanted, "resume")
    return dataclasses.replace(wanted, resume=config.resume)


def _settings_of_evaluation(run: str, typed: Callable[[Config], Config]) -> Config:
    """The run's settings, without what concerns its own folder and its training."""
    folder = RunFolder(Path(run))
    saved = saved_config(folder, "evaluate")
    if saved.mode == LOCAL:
        raise UserError(
            f"--evaluate: {folder.path} was trained by itself, without clients; `fedkeras aggregate "
            f"{folder.model_path} --compare fedavg --test FILE.npz` tests it"
        )
    if saved.evaluate:
        raise UserError(f"--evaluate: {folder.path} is itself a test of {saved.evaluate}: name that")
    saved = saved.with_defaults(NOT_OF_A_TEST)
    wanted = typed(dataclasses.replace(saved, evaluate=run, checkpoint_every=0))
    _require_kept(folder, saved, wanted, "evaluate", {"run_dir", "name", "central_evaluation", *OF_EVALUATION})
    asked = {} if wanted.evaluate_clients == "all" else {"min_available_nodes": 1}
    share = 0.0 if wanted.evaluate_clients == "none" else 1.0
    return dataclasses.replace(wanted, evaluate=run, fraction_evaluate=share, **asked)


NOT_OF_A_TEST = (
    "resume", "release", "run_dir", "name", "spawn", "gpus_per_client", "stop_after", "min_available_nodes",
)  # fmt: skip
"""Settings of a run that mean nothing when its model is tested again."""


def _require_kept(
    folder: RunFolder, saved: Config, wanted: Config, why: str, more: Collection[str] = frozenset()
) -> None:
    """Raise UserError for a setting of the run that was typed otherwise and may not differ."""
    free = {*fields_of(MAY_CHANGE), "resume", *more}
    for name in fields_of():
        if name not in free and getattr(wanted, name) != getattr(saved, name):
            raise UserError(
                f"--{why} keeps the run's settings: --{flag(name)} cannot be changed "
                f"(it is '{getattr(saved, name)}' in {folder.config_path})"
            )


def from_flags(args: Sequence[str] | None = None, prog: str = "server.py", read: Read = Config.from_flags) -> Config:
    """The configuration from flags, where --resume or --evaluate makes a run's settings the defaults of all others.

    `read` is for commands that have flags of their own besides. Raises UserError.
    """
    words = sys.argv[1:] if args is None else args
    named = {name: _run_named_in(words, f"--{name}") for name in ("resume", "evaluate")}
    if not any(named.values()):
        return read(args, prog, None)
    return settings(Config(**named), lambda saved: read(args, prog, saved))


def from_run_config(table: Mapping[str, Value]) -> Config:
    """`Config.from_run_config` under Flower's runtime, with resume.

    Flower merges the defaults in: a key at its default counts as not given. Raises UserError, for relative paths too.
    """
    config = Config.from_run_config(table).require_absolute_paths()
    given = {name: getattr(config, name) for name in config.changed()}
    return settings(config, lambda saved: dataclasses.replace(saved, **given)).require_absolute_paths()


def saved_config(folder: RunFolder, why: str = "resume") -> Config:
    """The run's config.json. Raises UserError if there is none, none that can be read, or one of other rules.

    `why` is the flag that named the run.
    """
    try:
        table = json.loads(folder.config_path.read_text())
        if not isinstance(table, dict):
            raise ValueError("it is no table")
    except FileNotFoundError:
        raise UserError(f"--{why}: there is no {folder.config_path}; is this the folder of a run?") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"--{why}: {folder.config_path} cannot be read: {why}; start a new run") from error
    try:
        check_rules(table)
        return config_of(table)
    except UserError as error:
        raise UserError(f"--{why}: {folder.config_path} {_made_by(folder)}: {error}; start a new run") from error


def config_of(table: Mapping[str, Value]) -> Config:
    """The configuration in a file that may be of another version. What it lacks is at its default.

    Raises UserError for a setting, or a value, that this version does not know.
    """
    table = settings_in(table)
    if unknown := [key for key in table if key not in map(flag, fields_of())]:
        raise UserError(f"it has the setting '{unknown[0]}', which is not known here")
    return Config.from_run_config(table)


def check_rules(table: Mapping[str, Value]) -> None:
    """Raise UserError for what was begun when the same settings meant something else."""
    number = table.get(RULES, 1)
    if number != RULES_NUMBER:
        later = isinstance(number, int) and number > RULES_NUMBER
        raise UserError(
            f"it was begun by a version {'after' if later else 'before'} {RULES_SINCE}, "
            "which dealt rows out, scaled them and chose losses by other rules"
        )


def holders(config: Config) -> JsonTable:
    """Who holds which client id of the run that goes on; empty for a new run."""
    return newest_holders(RunFolder(Path(config.resume))) if config.resume else {}


def already_finished(config: Config) -> bool:
    """True, and printed, if the run to resume has come to its end and is not to go on for more rounds.

    Raises RunFailed if that end was none.
    """
    if not config.resume:
        return False
    folder = RunFolder(Path(config.resume))
    try:
        summary = json.loads(folder.summary_path.read_text())
        if summary["status"] not in ("finished", DIVERGED) or summary["rounds"] < config.num_server_rounds:
            return False
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if summary["status"] == DIVERGED:
        raise no_result(folder)
    print(f"the run is finished; for more than its {summary['rounds']} rounds raise --num-server-rounds")
    print(folder.path, flush=True)
    return True


def keep_settings(config: Config) -> None:
    """Write the settings that go on into the run's config.json. Raises UserError if a server writes to the run."""
    folder = RunFolder(Path(config.resume))
    with held(folder):
        folder.write_config(dataclasses.replace(config, resume="", release=""))


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
    _warn_of_other_versions(checkpoint.versions)
    return checkpoint


def go_back(folder: RunFolder, config: Config, checkpoint: Checkpoint | None) -> None:
    """Make the folder what it was at this checkpoint (None: at the start): later rows of history.csv are cut off.

    config.json takes the settings that go on.
    """
    folder.write_config(dataclasses.replace(config, resume="", release=""))
    cut_rows(folder.history_path, checkpoint.history_rows if checkpoint else 0)
    tables = (FAILURES, folder.failures_path), (TIMING, folder.timing_path), (WARNINGS, folder.warnings_path)
    for table, path in tables:
        table.cut(path, checkpoint.round if checkpoint else 0)
    for path in (folder.summary_path, folder.predictions_path):
        path.unlink(missing_ok=True)  # they describe an end that is none any more


def _run_named_in(args: Sequence[str], name: str) -> str:
    """The value of the flag `name`, looked for before the flags are read, whose defaults it decides."""
    run = ""
    for word, following in itertools.pairwise([*args, ""]):
        if word == name:
            run = "" if following.startswith("--") else following
        elif word.startswith(f"{name}="):
            run = word.removeprefix(f"{name}=")
    return run


def _made_by(folder: RunFolder) -> str:
    """Which version of fedkeras made the run, if another one and its summary or a checkpoint can be read."""
    version = None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        version = json.loads(folder.summary_path.read_text())["versions"]["fedkeras"]
    with contextlib.suppress(UserError):
        checkpoint = None if version else newest_checkpoint(folder)
        version = checkpoint.versions.get("fedkeras") if checkpoint else version
    now = versions()["fedkeras"]
    other = version not in (None, now)
    return f"was made by fedkeras {version}, and this is {now}" if other else f"does not fit this fedkeras, {now}"


def _warn_of_other_versions(then: Mapping[str, str]) -> None:
    now = versions()
    other = [f"{name} {then[name]} (now {now[name]})" for name in now if name in then and then[name] != now[name]]
    if other:
        log.warning("the run was begun with %s: its figures may differ in the last digits", ", ".join(other))
