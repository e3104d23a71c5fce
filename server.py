"""The ServerApp, and `python server.py`: parse, assemble, run. No algorithm lives here.

The same `app` runs over our gRPC (this file as a command), in Flower's simulation (`flwr run .`) and on its SuperLink.
"""

import contextlib
import functools
import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp

from fedkeras import factory, reports, strategies
from fedkeras.checkout import look_in_working_directory, program, typed
from fedkeras.config import Config
from fedkeras.errors import RunFailed, UserError, complain
from fedkeras.federation import records
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.initial_weights import initial_arrays
from fedkeras.federation.strategy_state import StrategyState
from fedkeras.flower import code_digest
from fedkeras.provisioning import server as provisioning_server
from fedkeras.provisioning.client_manager import ProvisionedClientManager
from fedkeras.reports import RunFolder, checkpoints, resuming
from fedkeras.reports.progress_table import ProgressTable
from fedkeras.runtime.client_app import App
from fedkeras.workflows import checkpointer
from fedkeras.workflows.collect import server as collect_server
from fedkeras.workflows.interruption import Interruption
from fedkeras.workflows.rounds.server import run_rounds
from fedkeras.workflows.split import server_model as split_server
from fedkeras.workflows.split.server import run_split

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Flower's entry: the configuration is the run's, the grid Flower's."""
    import platformdirs

    try:
        config = resuming.from_run_config(context.run_config)
        parent = Path(config.run_dir) if config.run_dir else platformdirs.user_data_path("fedkeras") / "runs"
        if not resuming.already_finished(config):
            train(grid, config, parent, {"code-digest": code_digest.digest()})
    except UserError as error:
        complain("server.py", error)  # before Flower's traceback, the line that matters
        raise


def train(
    grid: Grid,
    config: Config,
    parent: Path,
    tell: dict | None = None,
    threads: int = 0,
    interruption: Interruption | None = None,
) -> dict:
    """One federated run on any grid; leaves a run folder under `parent`; returns its summary and `folder`, its path.

    With config.resume, that folder's run goes on. `tell` goes into every message's config; `threads` are TensorFlow's
    in this process (0: one a core, but in split learning, where they decide the bits, as many as a client's). Raises
    KeyboardInterrupt after a round in which `interruption` was asked for.
    """
    model = config.model if config.data_source or config.collect_only else factory.model_name(config)
    strategy = strategies.load(config.strategy, strategies.options_of(config))
    memory = StrategyState(strategy)
    split_server.check_flags(config)
    threads = threads or (config.threads_per_client if config.split != "off" else 0)
    given = provisioning_server.open_provision(config)
    central, tested = factory.CentralEvaluation(config, threads), provisioning_server.is_tested_centrally(config, given)
    if tested:
        central.load()
    if config.split == "off":
        train_rounds = functools.partial(run_rounds, strategy)
    else:
        train_rounds = functools.partial(run_split, middle=split_server.SplitServer(config, threads))
    ordinary = f"{config.dataset}-{config.strategy if config.split == 'off' else config.split}"
    new_name = config.name or provisioning_server.name(config) or ordinary
    folder = RunFolder(Path(config.resume)) if config.resume else reports.create_run_folder(parent, new_name, config)
    central = provisioning_server.central(config, given, folder, threads, central)
    stop = interruption or Interruption()

    def evaluate(server_round: int, global_arrays: ArrayRecord) -> dict[str, float] | None:
        return central(server_round, records.views(global_arrays))

    with reports.held(folder), logged(folder), saying_how_to_go_on(folder, "server" if interruption else "simulate"):
        last = checkpointer.take_up(folder, config, memory) if config.resume else None
        rests, done = checkpointer.rests_of(config, last), last.round if last else 0
        with (
            reports.Recorder(
                folder, config, provisioning_server.bar(config), before=last.seconds if last else 0.0
            ) as recorder,
            checkpointer.Checkpointer(folder, config, memory, rests, recorder) as keeper,
        ):
            if tested and (counts := factory.label_counts(config)):
                reports.write_label_counts(folder.partitions_path, *counts)
            if config.collect_only:
                return collect_server.collect_only(grid, config, folder, recorder, tell)
            if given:
                nodes = ProvisionedClientManager(grid, config, given, folder, tell, ProgressTable(), recorder.watch)
            else:
                nodes = ClientManager(grid, config, recorder.watch)
            asked_again = [nodes.round_finished] if given else []
            if config.mode == "collect":
                return collect_server.train_and_collect(grid, config, nodes, folder, recorder, tell, central)
            start = checkpointer.weights_of(last) if last else initial_arrays(grid, config, nodes, tell)
            if done < config.num_server_rounds:
                nodes.wait()  # here and not in the round: who interrupts while nobody is there need not wait for it
            with stop.rounds(done + 1, ", then a checkpoint" if config.checkpoint_every else ""):
                final = train_rounds(
                    grid,
                    nodes,
                    start,
                    config,
                    evaluate=evaluate if tested else None,
                    callbacks=[*asked_again, recorder.round_finished, keeper, stop.round_finished],
                    tell=tell,
                    first_round=done + 1,
                    rests=rests,
                    stop=stop.asked,
                    watch=recorder.watch,
                )
            if stop.asked() and keeper.rounds_left():
                keeper.before_end()
                raise KeyboardInterrupt
            central.save(records.views(final), folder.model_path)
            if predictions := central.predictions(records.views(final)):
                reports.write_predictions(folder.predictions_path, *predictions)
            num_weights = sum(array.size for array in records.views(final).values())
            return recorder.finish(model=model, num_weights=num_weights) | {"folder": folder.path}


def in_process(config: Config, client_app: App, parent: Path = Path("runs"), quiet: bool = True) -> RunFolder:
    """A run with all clients in this process, one after the other: for notebooks and breakpoints. No port, no process.

    `client_app` is client.py's `app`, or any function of (message, context) around it that returns the reply. Clients
    work one after the other and are waited for, so `round_timeout` does nothing here. All runs of a process have one
    `threads_per_client`.
    """
    from fedkeras.runtime.in_process import InProcessGrid

    # Each run compiles graphs of its own; TensorFlow takes that for a mistake and warns of it from the fifth on.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    own = {"data-dir": config.data_dir} if config.data_dir else {}
    grid = InProcessGrid(client_app, config.num_partitions, config.for_clients(), own)
    with contextlib.redirect_stdout(io.StringIO()) if quiet else contextlib.nullcontext():
        summary = train(grid, config, Path(config.run_dir or parent), threads=config.threads_per_client)
    return RunFolder(summary["folder"])


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
def logged(folder: reports.RunFolder) -> Iterator[None]:
    """Write the log into the run's folder meanwhile."""
    reports.start_log(folder.log_path)
    try:
        yield
    finally:
        reports.stop_log()


def shareable(config: Config) -> bool:
    """Whether a message may go to any of several processes: not in split learning or server-led training."""
    return config.split == "off" and not config.data_source and not config.collect_only


def listening(config: Config, run_config: dict) -> Grid:
    """The gRPC grid of this run or of another app's; `run_config` is what clients are told. Raises UserError."""
    from fedkeras.runtime.grpc_grid import GrpcGrid
    from fedkeras.runtime.passphrase import access_of_server

    return GrpcGrid(
        config.host,
        config.port,
        config.num_partitions,
        run_config,
        access=access_of_server(config),
        reconnect_grace=config.reconnect_grace,
        max_message_bytes=config.max_message_mb * 1_000_000,
        shareable=shareable(config),
    )


def command() -> int:
    """`python server.py`. Returns the exit status: 0 only for a finished run."""
    from fedkeras import interactive
    from fedkeras.flower import other_app, settings
    from fedkeras.runtime.spawn import clients

    interruption = Interruption()
    look_in_working_directory()
    try:
        interruption.watch()
        config = interactive.from_flags()
        if resuming.already_finished(config):
            return 0
        parent = Path(config.run_dir or "runs")
        settings.check_flags(config)
        reports.check_extras(config)
        split_server.check_flags(config)
        other, run_config = None, config.for_clients()
        if config.app:
            other, run_config = other_app.load_server_app(config.app, config.app_config)
        # The grid is left first: it tells the clients to end, and only then are spawned ones waited for.
        with contextlib.ExitStack() as spawned, listening(config, run_config) as grid:
            print(f"listening on {grid.address} for {config.num_partitions} clients", flush=True)
            spawned.enter_context(clients(config, grid.port, grid.fail, shareable(config)))
            if other:
                other_app.run(other, grid, run_config, other_app.log_path(parent, config.name, config.app))
            else:
                train(grid, config, parent, interruption=interruption)
    except UserError as error:
        return complain(program("server"), error)
    except KeyboardInterrupt:
        print(f"{program('server')}: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(command())
