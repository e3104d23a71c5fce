"""From a configuration to a run: everything is checked, opened and put together, in this order, for every way to train.

What is wrong with flags, mods, strategy, model file or data is said before a folder is made; from then on the folder is
held by this process, logged into, and tells at the end how to go on if the run did not come to its end.
"""

import contextlib
import logging
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from flwr.app import ArrayRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fedkeras import data, factory, reports, scaling
from fedkeras.callbacks import Callback, Callbacks
from fedkeras.checkout import typed
from fedkeras.config import Config, Value, fields_of
from fedkeras.errors import RunFailed, UserError
from fedkeras.federation import registry, source_check, strategy_adapter
from fedkeras.federation.client_weights import ClientWeights
from fedkeras.federation.grids import federation_grid
from fedkeras.federation.metric_names import MetricNames
from fedkeras.federation.records import views
from fedkeras.federation.sampling import FailureTracker, cohort_size
from fedkeras.federation.strategy_state import StrategyState
from fedkeras.federation.trainable import Trainable
from fedkeras.models.file_info import SUFFIXES
from fedkeras.models.requirements import require_trainable_file
from fedkeras.mods.chain import ModChain, make_mods
from fedkeras.provisioning import provisioned_run
from fedkeras.provisioning.described_clients import DescribedClientManager
from fedkeras.provisioning.server import check_flags as check_provisioning_flags
from fedkeras.provisioning.server import open_provision
from fedkeras.reports import RunFolder, checkpoints, metrics_exporter
from fedkeras.reports.summary import versions
from fedkeras.tensorflow_import import check_keras
from fedkeras.workflows import checkpointer
from fedkeras.workflows.base import CHOSEN_BY_FLAGS, Clients, EvaluateFn, RunContext, Summary, Workflow
from fedkeras.workflows.beginning import Beginning
from fedkeras.workflows.early_stopping import EarlyStopping
from fedkeras.workflows.interruption import Interruption
from fedkeras.workflows.participation import Participation
from fedkeras.workflows.soundness import Soundness

log = logging.getLogger("fedkeras")


def check_flags(workflow: Workflow, config: Config) -> None:
    """Raise UserError for flags that do not go together, and for a model file that is of no use here.

    Nothing is built to find out; of the model file its configuration is read, if it lies on this machine.
    """
    check_keras()
    _check_mode(config)
    if config.released() and not config.resume:
        raise UserError("--release gives a client id of a run free that goes on: --resume RUN says which run")
    if config.split == "off":
        config.refuse(fields_of(workflow="split"), "means nothing without --split sequential, splitfed or shared")
    check_provisioning_flags(config)
    _check_stopping(workflow, config)
    metrics_exporter.check(config)
    workflow.check(config)
    make_mods(config.mods).check(config)
    if config.model.endswith(SUFFIXES) and (path := Path(config.model).expanduser()).is_file():
        try:
            require_trainable_file(path)
        except UserError as error:
            raise UserError(f"--model {config.model}: {error}") from None


@contextlib.contextmanager
def open_run(
    workflow: Workflow,
    grid: Grid,
    config: Config,
    parent: Path,
    *,
    message_config: Mapping[str, Value] | None = None,
    threads: int = 0,
    interruption: Interruption | None = None,
) -> Iterator[RunContext]:
    """The run of `workflow` in a new folder under `parent`, or with config.resume in the folder of that run.

    `message_config` goes into every message; `threads` are TensorFlow's in this process (0: as the workflow has it).
    Raises UserError.
    """
    check_flags(workflow, config)
    model = config.model if config.data_source or config.collect_only else factory.model_name(config)
    mods = make_mods(config.mods)
    choices = reports.Choices()
    threads = threads or workflow.server_threads(config)
    of_model = threads or os.cpu_count() or 1  # as CentralEvaluation has it
    given, config = config, scaling.resolved(config, threads=of_model)
    strategy = mods.strategy(registry.load(config.strategy, registry.options_of(config)))
    warnings = strategy_adapter.check(strategy, cohort_size(config.num_partitions, config.fraction_train))
    state = StrategyState(strategy, mods.mods)
    provision = open_provision(config)
    for name, text in provision.notes.items() if provision else ():
        choices.note(name, text)
    central = factory.CentralEvaluation(config, threads)
    tested = (
        workflow.evaluates_centrally and config.central_evaluation and provisioned_run.has_test_set(config, provision)
    )
    if tested:
        central.load()
    if strategy_adapter.is_robust(strategy):
        choices.note("clients' figures", f"of all together their median, each counted once, as {config.strategy} does")
    _note_scaling(choices, scaling.scaling_of(given, True, of_model).reason, given, tested)
    if tested and config.uses_catalogue:
        for name, text in data.open_source(config).chosen.items():
            choices.note(name, text)
        if said := data.weights_said(config):
            choices.note("sample weights", said)
    workflow.prepare_server(config, threads)
    loss = provisioned_run.note_loss(config, provision, central, choices, threads)
    folder = _folder(workflow, given, parent)
    central = provisioned_run.table_evaluation(config, provision, folder, threads) or central
    beginning = Beginning()
    with (
        reports.held(folder),
        logged(folder),
        saying_how_to_go_on(folder, "server" if interruption else "simulate"),
        beginning.judged(),
    ):
        choices.keep_in(folder)
        start = checkpointer.take_up(folder, config, state) if config.resume else None
        failures = checkpointer.failures_at(config, start)
        fixed_counts = mods.fixed_counts and workflow.fixed_counts
        client_weights = checkpointer.client_weights_at(config, start, fixed_counts)
        opened = config.uses_catalogue and (tested or workflow.has_data or data.needs_no_files(config.dataset))
        client_weights.deal(provisioned_run.dealt(config, provision, opened))
        before = start.seconds if start else 0.0
        with (
            reports.Recorder(
                folder,
                config,
                None if workflow.has_rounds else False,
                before=before,
                sections=lambda: workflow.report_sections(folder),
            ) as recorder,
            metrics_exporter.exporting(config, folder.path.name) as exported,
            checkpointer.Checkpointer(folder, config, state, failures, recorder, client_weights) as keeper,
        ):
            if tested and (counts := factory.label_counts(config)):
                reports.write_label_counts(folder.partitions_path, *counts)
            for number, warning in enumerate(warnings):
                recorder.warn(0, f"strategy {number}", warning)
            same_data = source_check.message_config(config) if opened else {}
            own_grid = federation_grid(grid, {**(message_config or {}), **same_data})
            # Where there are no rounds, the first Ctrl-C has none to wait for.
            stop = [interruption or Interruption()] if workflow.has_rounds else []
            part = Participation(own_grid, config.num_partitions)
            stopping = EarlyStopping(folder, config.stop_after) if config.stop_after else None
            early = [stopping] if stopping else []
            callbacks = Callbacks(
                [
                    beginning,
                    recorder,
                    recorder.live_view,
                    Soundness(recorder),
                    part,
                    *mods.callbacks(),
                    *exported,
                    *early,
                    keeper,
                    *stop,
                ]
            )
            clients = provisioned_run.clients_of(
                own_grid, config, provision, folder, callbacks, choices, central, loss, client_weights, opened
            )

            def evaluate_fn(server_round: int, arrays: ArrayRecord) -> Mapping[str, float] | None:
                return central(server_round, views(arrays))

            def finish(status: str = "finished", **more: object) -> Summary:
                if status == "finished" and workflow.has_rounds:
                    ended_well = reports.diverged_since(reports.read_rows(folder.history_path)) is None
                    status = status if ended_well else reports.DIVERGED
                summary = recorder.finish(status, model=model, **more) | {"folder": folder.path}
                if status in ("finished", reports.DIVERGED):
                    callbacks.on_run_end(summary)
                return summary

            yield RunContext(
                config=config,
                grid=own_grid,
                clients=clients,
                folder=folder,
                strategy=strategy,
                mods=mods,
                central=central,
                evaluate_fn=evaluate_fn if tested else None,
                callbacks=callbacks,
                failures=failures,
                client_weights=client_weights,
                metric_names=MetricNames(recorder.columns),
                choices=choices,
                early_stopping=stopping,
                start=start,
                finish=finish,
            )


def bare_run(
    grid: Grid,
    config: Config,
    strategy: Strategy,
    *,
    clients: Clients | None = None,
    mods: ModChain | None = None,
    callbacks: Iterable[Callback] = (),
    evaluate_fn: EvaluateFn | None = None,
    failures: FailureTracker | None = None,
    client_weights: ClientWeights | None = None,
    trainable: Trainable | None = None,
    message_config: Mapping[str, Value] | None = None,
) -> RunContext:
    """A run that leaves nothing behind: no folder, no checkpoint, no report. For benchmarks, tests and experiments."""
    own_grid, hooks, mods = federation_grid(grid, message_config), Callbacks(callbacks), mods or ModChain()
    central, choices = factory.CentralEvaluation(config), reports.Choices()
    run = RunContext(
        config=config,
        grid=own_grid,
        clients=clients
        or DescribedClientManager(
            own_grid, config, None, hooks, choices=choices, set_normaliser=central.set_normaliser
        ),
        folder=RunFolder(Path()),
        strategy=mods.strategy(strategy),
        mods=mods,
        central=central,
        evaluate_fn=evaluate_fn,
        callbacks=hooks,
        failures=failures or FailureTracker(config),
        client_weights=client_weights or ClientWeights(config, mods.fixed_counts),
        metric_names=MetricNames(),
        choices=choices,
        start=None,
        finish=lambda status="finished", **more: {"status": status, **more},
    )
    return run if trainable is None else run.knowing(trainable)


def _note_scaling(choices: reports.Choices, reason: str, given: Config, opened: bool) -> None:
    """What the model (for this `reason`) or the data decided about scaling, where no flag did; `opened`: a data set."""
    if reason:
        choices.note("normaliser", reason)
    elif given.normaliser == "default" and not given.uses_catalogue:
        choices.note("normaliser", "none, since tables are scaled on request only (--normaliser)")
    elif given.normaliser == "default" and opened:
        choices.note("normaliser", f"{data.open_source(given).default_normaliser}, which suits {given.dataset}")


def _check_mode(config: Config) -> None:
    """--split and --collect-only choose a workflow as --mode does: one of them, and only under its own name."""
    if config.mode in CHOSEN_BY_FLAGS:
        raise UserError(f"--mode is '{config.mode}', which {CHOSEN_BY_FLAGS[config.mode]} chooses; leave out --mode")
    chosen = ["--split"] * (config.split != "off") + ["--collect-only"] * config.collect_only
    if len(chosen) > 1:
        raise UserError("--split and --collect-only are two ways to train: leave one of them out")
    if chosen and config.mode not in ("federated", "collect"):
        raise UserError(f"--mode {config.mode} and {chosen[0]} are two ways to train: leave one of them out")


def _check_stopping(workflow: Workflow, config: Config) -> None:
    """The best round's model must be there in the end, after a resumption too."""
    if config.stop_after and config.split != "off":
        raise UserError("--stop-after keeps the best round's model, and with --split clients keep their parts of it")
    if config.stop_after and not workflow.has_rounds:
        raise UserError("--stop-after is for rounds; clients that train by themselves stop early with --patience")
    if config.stop_after and config.checkpoint_every > 1:
        raise UserError("--stop-after keeps the best round's model: with it, --checkpoint-every is 1, or 0 for none")


def _folder(workflow: Workflow, config: Config, parent: Path) -> RunFolder:
    if config.resume:
        return RunFolder(Path(config.resume))
    return reports.create_run_folder(parent, config.name or workflow.run_name(config), config)


@contextlib.contextmanager
def saying_how_to_go_on(folder: RunFolder, command: str) -> Iterator[None]:
    """A run that ends early and has a checkpoint says how to resume it."""
    try:
        yield
    except (RunFailed, KeyboardInterrupt):
        if checkpoints.rounds_of(folder):
            print(f"to go on: {typed(command, '--resume', folder.path)}", flush=True)
        raise


@contextlib.contextmanager
def logged(folder: RunFolder) -> Iterator[None]:
    """Write the log into the run's folder meanwhile."""
    reports.start_log(folder.log_path)
    parts = (f"{name} {number}" for name, number in versions().items() if number)
    log.info("%s; started as: %s", ", ".join(parts), shlex.join(sys.argv))
    try:
        yield
    finally:
        reports.stop_log()
