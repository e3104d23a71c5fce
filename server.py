"""The ServerApp, and `python server.py`: parse, assemble, run. No algorithm lives here.

The same `app` runs over our gRPC (this file as a command), in Flower's simulation (`flwr run .`) and on its SuperLink.
"""

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp

import strategies
from fedkeras import assembly, origin, reports
from fedkeras.config import Config, options
from fedkeras.errors import UserError, complain
from strategies import arrays
from strategies.nodes import Nodes
from strategies.rounds import run_rounds
from strategies.start import initial_arrays

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Flower's entry: the configuration is the run's, the grid Flower's."""
    import platformdirs

    try:
        config = Config.from_run_config(context.run_config).require_absolute_paths()
        parent = Path(config.run_dir) if config.run_dir else platformdirs.user_data_path("fedkeras") / "runs"
        train(grid, config, parent, {"code-digest": origin.digest()})
    except UserError as error:
        complain("server.py", error)  # before Flower's traceback, the line that matters
        raise


def train(grid: Grid, config: Config, parent: Path, tell: dict | None = None, threads: int = 0) -> dict:
    """One federated run on any grid; leaves a run folder under `parent` and returns its summary.

    `tell` goes into every message's config; `threads` are TensorFlow's in this process (0: one a core).
    """
    model = assembly.model_name(config)
    strategy = strategies.load(config.strategy, strategy_options(config))
    central = assembly.CentralEvaluation(config, threads)
    if config.central_evaluation:
        central.load()
    folder = reports.create_run_folder(parent, config.name or f"{config.dataset}-{config.strategy}", config)

    def evaluate(server_round: int, global_arrays: ArrayRecord) -> dict[str, float]:
        return central(server_round, arrays.views(global_arrays))

    with logged(folder), reports.Recorder(folder, config) as recorder:
        nodes = Nodes(grid, config)
        start = initial_arrays(grid, config, nodes, tell)
        callbacks = [recorder.round_finished]
        central_evaluation = evaluate if config.central_evaluation else None
        final = arrays.views(run_rounds(strategy, grid, nodes, start, config, central_evaluation, callbacks, tell))
        central.save(final, folder.model_path)
        return recorder.finish(model=model, num_weights=sum(array.size for array in final.values()))


def strategy_options(config: Config) -> dict:
    """The strategy's own options; fedprox has a flag of its own."""
    own = {"proximal_mu": config.proximal_mu} if config.strategy == "fedprox" else {}
    return {**own, **options(config.strategy_args, "strategy-args")}


@contextlib.contextmanager
def logged(folder: reports.RunFolder) -> Iterator[None]:
    """Write the log into the run's folder meanwhile."""
    reports.start_log(folder.log_path)
    try:
        yield
    finally:
        reports.stop_log()


def command() -> int:
    """`python server.py`. Returns the exit status: 0 only for a finished run."""
    from fedkeras.runtime.grpc_grid import GrpcGrid
    from fedkeras.runtime.spawn import clients

    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as by Ctrl-C: the run folder says "interrupted"
        config = Config.from_flags()
        parent = Path(config.run_dir or "runs")
        own_grid = GrpcGrid(config.host, config.port, config.num_partitions, config.for_clients())
        # The grid is left first: it tells the clients to end, and only then are spawned ones waited for.
        with contextlib.ExitStack() as spawned, own_grid as grid:
            print(f"listening on {grid.address} for {config.num_partitions} clients", flush=True)
            spawned.enter_context(
                clients(config.spawn, config.num_partitions, grid.address, config.data_dir, grid.fail)
            )
            train(grid, config, parent)
    except UserError as error:
        return complain("server.py", error)
    except KeyboardInterrupt:
        print("server.py: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(command())
