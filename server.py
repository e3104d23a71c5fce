"""The ServerApp, and `python server.py`: parse, choose a workflow, run it.

The same `app` runs over our gRPC (this file as a command), in Flower's simulation (`flwr run .`) and on its SuperLink.
What a way to train does is in fedkeras/workflows, what a strategy does in strategies.
"""

import contextlib
import io
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import fedkeras  # noqa: F401 - before Flower, whose import decides what gRPC prints

# isort: split
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedkeras import atomic, data, interactive, lifeline, reports, scaling
from fedkeras.checkout import look_in_working_directory, program
from fedkeras.client_config import join_command, join_notes
from fedkeras.config import Config, Value
from fedkeras.errors import UserError, complain
from fedkeras.federation import registry
from fedkeras.flower import code_digest, ray_place, settings
from fedkeras.mods.chain import make_mods
from fedkeras.named_code import EVERYTHING_NAMED
from fedkeras.output import outlast
from fedkeras.reports import RunFolder, resuming
from fedkeras.runtime.client_app import App
from fedkeras.workflows.base import Summary, Workflow, workflow_of
from fedkeras.workflows.flag_checks import check_flags
from fedkeras.workflows.interruption import Interruption
from fedkeras.workflows.run_setup import open_run

if TYPE_CHECKING:
    from fedkeras.runtime.holders import Holders

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Flower's entry: the configuration is the run's, the grid Flower's."""
    import platformdirs

    try:
        config = resuming.from_run_config(context.run_config)
        settings.check_run_config(config)
        parent = Path(config.run_dir) if config.run_dir else platformdirs.user_data_path("fedkeras") / "runs"
        if not resuming.already_finished(config):
            message_config = {"code-digest": code_digest.digest()}
            message_config |= {ray_place.ASKED: True} if ray_place.wanted() else {}
            require_result(train(grid, config, parent, message_config))
    except UserError as error:
        complain("server.py", error)  # before Flower's traceback, the line that matters
        raise


def train(
    grid: Grid,
    config: Config,
    parent: Path,
    message_config: Mapping[str, Value] | None = None,
    threads: int = 0,
    interruption: Interruption | None = None,
) -> Summary:
    """One run on any grid; leaves a run folder under `parent`; returns its summary and `folder`, its path.

    With config.resume, that folder's run goes on. `message_config` goes into every message's config; `threads` are
    TensorFlow's in this process (0: as the workflow has it). Raises KeyboardInterrupt after a round in which
    `interruption` was asked for.
    """
    workflow = workflow_of(config)
    own = {"message_config": message_config, "threads": threads, "interruption": interruption}
    resumed = Path(config.resume) if config.resume else None
    with atomic.private(config.private, resumed), open_run(workflow, grid, config, parent, **own) as run:
        return workflow.run(run)


def require_result(summary: Summary) -> None:
    """Raise RunFailed for a run that came to its end with a loss that is not finite: its model is no result."""
    if summary["status"] == reports.DIVERGED:
        raise reports.no_result(RunFolder(summary["folder"]))


def in_process(
    config: Config,
    client_app: App,
    parent: Path = Path("runs"),
    quiet: bool = True,
    interruption: Interruption | None = None,
) -> RunFolder:
    """A run with all clients in this process, one after the other: for notebooks and breakpoints. No port, no process.

    `client_app` is client.py's `app`, or any function of (message, context) around it that returns the reply. Clients
    work one after the other and are waited for, so `round_timeout` does nothing here. A run whose last loss is not
    finite is returned too: its summary.json says that it has diverged. All runs of a process have one
    `threads_per_client`. Raises KeyboardInterrupt after a round in which `interruption` was asked for.
    """
    from fedkeras.runtime.in_process import InProcessGrid

    # Each run compiles graphs of its own; TensorFlow takes that for a mistake and warns of it from the fifth on.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    own = {"allow": EVERYTHING_NAMED, "trust-code": config.trust_code}
    of_files = {"data-dir": config.data_dir, "decimal": config.decimal, "thousands": config.thousands}
    own |= {name: value for name, value in of_files.items() if value}
    told = scaling.resolved_by_client(data.told(registry.with_mods(config))).for_clients()
    grid = InProcessGrid(client_app, config.num_partitions, told, own)
    with contextlib.redirect_stdout(io.StringIO()) if quiet else contextlib.nullcontext():
        how = {"threads": config.threads_per_client, "interruption": interruption}
        summary = train(grid, config, Path(config.run_dir or parent), **how)
    return RunFolder(summary["folder"])


def listening(config: Config, run_config: Mapping[str, Value], shareable: bool, holder_key: bytes) -> Grid:
    """The gRPC grid of this run or of another app's; `run_config` is what clients are told. Raises UserError.

    `holder_key` is that of the clients which the server starts itself.
    """
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
        shareable=shareable,
        holders=_holders(config, holder_key),
    )


def _holders(config: Config, holder_key: bytes) -> "Holders":
    """Who holds which client id, without those that --release names. Raises UserError."""
    from fedkeras.runtime.holders import Holders

    holders = Holders.from_table(resuming.holders(config), holder_key)
    for cid in holders.release(config.released()):
        print(f"--release: nobody held client {cid}")
    return holders


def command(read: Callable[[], Config] = interactive.from_flags, name: str = "server") -> int:
    """`python server.py`. Returns the exit status: 0 only for a finished run; 3 also for one that has diverged.

    `read` makes the configuration, and `name` is the program's, of another command that is a server's run too.
    """
    from fedkeras.flower import other_app
    from fedkeras.runtime.passphrase import VARIABLE
    from fedkeras.runtime.spawn import clients

    outlast()
    lifeline.follow()
    interruption = Interruption()
    look_in_working_directory()
    reports.show_warnings()  # what strangers say reaches the terminal as it does during the run: cleaned
    try:
        interruption.watch()
        config = read()
        if resuming.already_finished(config):
            return 0
        parent = Path(config.run_dir or "runs")
        settings.check_flags(config)
        config = registry.with_mods(config)
        reports.check_extras(config)
        workflow: Workflow = workflow_of(config)
        check_flags(workflow, config)
        # A model file is looked at here, since clients need not have it; a function's model would take TensorFlow.
        other, run_config = None, scaling.resolved(data.told(config), build=False).for_clients()
        if config.app:
            other, run_config = other_app.load_server_app(config.app, config.app_config)
        one_process = workflow.keeps_client_state(config) or make_mods(config.mods).keeps_client_state
        shareable, own = not one_process, os.urandom(32)
        # The grid is left first: it tells the clients to end, and only then are spawned ones waited for.
        with contextlib.ExitStack() as spawned, listening(config, run_config, shareable, own) as grid:
            print(f"listening on {grid.address} for {config.num_partitions} clients: {grid.protection}", flush=True)
            if not config.spawn:
                print(f"clients join with: {join_command(config, grid.address)}", flush=True)
                for note in join_notes(config, grid.address, VARIABLE in os.environ):
                    print(f"  {note}", flush=True)
            spawned.enter_context(
                clients(
                    config,
                    grid.port,
                    grid.fail,
                    shareable,
                    allow=EVERYTHING_NAMED,
                    trust_code=config.trust_code,
                    holder_key=own,
                    pipe=grid.pipe,
                )
            )
            if other:
                other_app.run(other, grid, run_config, other_app.log_path(parent, config.name, config.app))
            else:
                summary = train(grid, config, parent, interruption=interruption)
        if not other:
            require_result(summary)
    except UserError as error:
        return complain(program(name), error)
    except KeyboardInterrupt as stop:
        print(f"{program(name)}: {str(stop) or 'interrupted'}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(command())
