"""Flags that do not go together, or would change nothing: for every way to train, before anything is loaded."""

from pathlib import Path

from fedkeras import data
from fedkeras.config import TIME, Config, fields_of, flag
from fedkeras.errors import UserError
from fedkeras.federation import registry, simulated_clock
from fedkeras.fields import setting_of
from fedkeras.models.file_info import SUFFIXES
from fedkeras.models.requirements import require_trainable_file
from fedkeras.mods.chain import make_mods
from fedkeras.provisioning.server import check_flags as check_provisioning_flags
from fedkeras.reports import metrics_exporter
from fedkeras.tensorflow_import import check_keras
from fedkeras.workflows.base import CHOSEN_BY_FLAGS, Workflow

OF_FILES = ("label_column", "feature_columns", "classes", "task")
"""Fields that say how somebody's own file is to be read."""


def check_flags(workflow: Workflow, config: Config) -> None:
    """Raise UserError for flags that do not go together, and for a model file that is of no use here.

    Nothing is built to find out; of the model file its configuration is read, if it lies on this machine.
    """
    check_keras()
    config = registry.with_mods(config)
    _check_mode(config)
    if not config.evaluate:
        config.refuse(["evaluate_round", "evaluate_clients"], "says something of --evaluate RUN, which is missing")
    if config.released() and not config.resume:
        raise UserError("--release gives a client id of a run free that goes on: --resume RUN says which run")
    if config.split == "off":
        config.refuse(fields_of(workflow="split"), "means nothing without --split sequential, splitfed or shared")
    if config.mode != "fedbuff":
        config.refuse(fields_of(workflow="fedbuff"), "means nothing without --mode fedbuff")
    refuse_unused(config)
    _check_own_files(config)
    check_provisioning_flags(config)
    _check_stopping(workflow, config)
    _check_time(workflow, config)
    metrics_exporter.check(config)
    workflow.check(config)
    registry.for_run(config)  # before the mods: who has typed a strategy need not know what it has added
    make_mods(config.mods).check(config, workflow.sends_updates)
    if config.model.endswith(SUFFIXES) and (path := Path(config.model).expanduser()).is_file():
        try:
            require_trainable_file(path)
        except UserError as error:
            raise UserError(f"--model {config.model}: {error}") from None


def refuse_unused(config: Config) -> None:
    """Raise UserError for a flag that changes nothing, since another that it belongs to says something else.

    `--alpha 0.1` without `--partitioner dirichlet` would deal evenly, and nobody would see it. A run that goes on, or
    is tested again, keeps what it was begun with.
    """
    if config.resume or config.evaluate:
        return
    for name in config.changed():
        about = setting_of(Config.__dataclass_fields__[name])
        other, _, wanted = (f"strategy={about.strategy}" if about.strategy else about.only).partition("=")
        has = getattr(config, other) if other else wanted
        if other == "dataset":
            has = data.built_in_name(has) or wanted  # a source of the user's own may look at any setting
        if has != wanted:
            raise UserError(
                f"--{flag(name)} changes nothing here: it is for --{flag(other)} {wanted}, and --{flag(other)} is {has}"
            )


def _check_mode(config: Config) -> None:
    """--split and --collect-only choose a workflow as --mode does: one of them, and only under its own name."""
    if config.mode in CHOSEN_BY_FLAGS:
        raise UserError(f"--mode is '{config.mode}', which {CHOSEN_BY_FLAGS[config.mode]} chooses; leave out --mode")
    chosen = ["--split"] * (config.split != "off") + ["--collect-only"] * config.collect_only
    if len(chosen) > 1:
        raise UserError("--split and --collect-only are two ways to train: leave one of them out")
    if chosen and config.mode not in ("federated", "collect"):
        raise UserError(f"--mode {config.mode} and {chosen[0]} are two ways to train: leave one of them out")


def _check_own_files(config: Config) -> None:
    """How a file is read matters where there is one; and who brings files are clients that somebody has started."""
    kind = data.kind_of(config.dataset, config.data_dir) if config.uses_catalogue else ""
    if not (data.is_file(config.dataset, config.data_dir) if config.uses_catalogue else config.data_source == "client"):
        config.refuse(OF_FILES, "is for a file of your own: --dataset FILE")
    if kind != "image_folder":
        config.refuse(["image_size"], "is for a folder of images: --dataset FOLDER")
    if config.deals:
        return
    if config.data_source:
        raise UserError(
            "--partitioner own is for rounds with --dataset; with --data-source client the data are the clients' own"
        )
    if config.spawn:
        raise UserError("--partitioner own: each client brings a file of its own (client.py --data); leave out --spawn")


def _check_time(workflow: Workflow, config: Config) -> None:
    """Time is counted where clients train in rounds; a run that is tested again keeps what it was trained with."""
    if config.evaluate:
        return
    if not workflow.is_timed:
        config.refuse(fields_of(group=TIME), "is for federated rounds, where clients' steps are counted")
    simulated_clock.check_flags(config)


def _check_stopping(workflow: Workflow, config: Config) -> None:
    """The best round's model must be there in the end, after a resumption too."""
    if config.stop_after and config.split != "off":
        raise UserError("--stop-after keeps the best round's model, and with --split clients keep their parts of it")
    if config.stop_after and not workflow.has_rounds:
        raise UserError("--stop-after is for rounds; clients that train by themselves stop early with --patience")
    if config.stop_after and config.checkpoint_every > 1:
        raise UserError("--stop-after keeps the best round's model: with it, --checkpoint-every is 1, or 0 for none")
