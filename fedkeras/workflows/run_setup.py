"""From a configuration to a run: what preparation.py has checked and loaded is put together, for every way to train.

By then nothing is written. From now on the run's folder is held by this process, logged into, and tells at the end how
to go on if the run did not come to its end.
"""

import contextlib
import logging
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from flwr.app import ArrayRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fedkeras import factory, reports
from fedkeras.callbacks import Callback, Callbacks
from fedkeras.checkout import typed
from fedkeras.config import Config, Value
from fedkeras.errors import RunFailed
from fedkeras.federation import source_check
from fedkeras.federation.client_weights import ClientWeights
from fedkeras.federation.grids import federation_grid
from fedkeras.federation.metric_names import MetricNames
from fedkeras.federation.records import views
from fedkeras.federation.sampling import FailureTracker
from fedkeras.federation.trainable import Trainable
from fedkeras.mods.chain import ModChain
from fedkeras.provisioning import provisioned_run
from fedkeras.provisioning.described_clients import DescribedClientManager
from fedkeras.reports import RunFolder, checkpoints, metrics_exporter
from fedkeras.reports.summary import versions
from fedkeras.workflows import checkpointer
from fedkeras.workflows.base import Clients, EvaluateFn, RunContext, Summary, Workflow, what_the_server_saw
from fedkeras.workflows.beginning import Beginning
from fedkeras.workflows.early_stopping import EarlyStopping
from fedkeras.workflows.interruption import Interruption
from fedkeras.workflows.participation import Participation
from fedkeras.workflows.preparation import prepare
from fedkeras.workflows.soundness import Soundness

log = logging.getLogger("fedkeras")


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
    ready = prepare(workflow, config, threads)
    config, mods, strategy, choices = ready.config, ready.mods, ready.strategy, ready.choices
    folder = _folder(workflow, ready.given, parent)
    central = provisioned_run.table_evaluation(config, ready.provision, folder, ready.threads) or ready.central
    beginning = Beginning()
    with (
        reports.held(folder),
        logged(folder),
        saying_how_to_go_on(folder, "server" if interruption else "simulate"),
        beginning.judged(),
    ):
        choices.keep_in(folder)
        start = checkpointer.take_up(folder, config, ready.state) if config.resume else None
        failures = checkpointer.failures_at(config, start)
        fixed_counts = mods.fixed_counts and workflow.fixed_counts
        client_weights = checkpointer.client_weights_at(config, start, fixed_counts)
        client_weights.deal(ready.dealt())
        before = start.seconds if start else 0.0
        with (
            reports.Recorder(
                folder,
                config,
                None if workflow.has_rounds else False,
                before=before,
                sections=lambda: [
                    *workflow.report_sections(folder),
                    *mods.report_sections(folder),
                    what_the_server_saw(ready.given, workflow, mods),
                ],
            ) as recorder,
            metrics_exporter.exporting(config, folder.path.name) as exported,
            checkpointer.Checkpointer(folder, config, ready.state, failures, recorder, client_weights) as keeper,
        ):
            if (ready.tested or not mods.whole_model) and ready.description and config.deals and mods.shows_clients:
                parts = ready.description
                counts = dict(enumerate(parts.counts))
                reports.write_label_counts(folder.partitions_path, parts.partition.scheme, parts.source.classes, counts)
            print(f"to watch it in a browser: {folder.report_path}", flush=True)
            for number, warning in enumerate(ready.warnings):
                recorder.warn(0, f"strategy {number}", warning)
            same_data = source_check.message_config(config) if ready.knows_source else {}
            own_grid = federation_grid(grid, {**(message_config or {}), **same_data})
            # Where there are no rounds, the first Ctrl-C has none to wait for.
            stop = [interruption or Interruption()] if workflow.has_rounds else []
            part = Participation(own_grid, config.num_partitions)
            stopping = EarlyStopping(folder, config.stop_after) if config.stop_after else None
            own = [beginning, recorder, recorder.live_view, Soundness(recorder), part, *mods.callbacks()]
            callbacks = Callbacks([*own, *exported, *([stopping] if stopping else []), keeper, *stop])
            clients = provisioned_run.clients_of(
                own_grid, config, ready.provision, folder, callbacks, choices, central, ready.loss_check,
                client_weights, ready.knows_source,
            )  # fmt: skip

            def evaluate_fn(server_round: int, arrays: ArrayRecord) -> Mapping[str, float] | None:
                return central(server_round, views(arrays))

            def finish(status: str = "finished", **more: object) -> Summary:
                if status == "finished" and workflow.has_rounds:
                    ended_well = reports.diverged_since(reports.read_rows(folder.history_path)) is None
                    status = status if ended_well else reports.DIVERGED
                own = {"model": ready.model, "server_threads": ready.threads or os.cpu_count(), **mods.summary()}
                if own_grid.places:
                    own["ray_nodes"] = dict(own_grid.places)
                    print(f"clients ran on: {_counted(own_grid.places)}", flush=True)
                summary = recorder.finish(status, **own, **more) | {"folder": folder.path}
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
                evaluate_fn=evaluate_fn if ready.tested else None,
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


def _folder(workflow: Workflow, config: Config, parent: Path) -> RunFolder:
    if config.resume:
        return RunFolder(Path(config.resume))
    return reports.create_run_folder(parent, config.name or workflow.run_name(config), config)


def _counted(places: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count} messages" for name, count in places.items())


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
    log.info("%s; started as: %s", ", ".join(parts), shlex.join(without_tokens(sys.argv)))
    try:
        yield
    finally:
        reports.stop_log()


def without_tokens(words: Sequence[str]) -> list[str]:
    """A command line as it may be logged: Flower gives a server app a `--token`, by which its holder acts for it."""
    return ["(secret)" if before == "--token" else word for before, word in zip(["", *words], words, strict=False)]
