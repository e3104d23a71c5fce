"""fedkeras with all clients in one process, for the simulation benchmark.

python -m benchmarks.in_process A GATE THREADS
"""

import sys
from dataclasses import replace

from benchmarks.gate import Gated
from benchmarks.workloads import WORK
from fedkeras import client
from fedkeras.federation.initial_weights import initial_arrays
from fedkeras.runtime.in_process import InProcessGrid
from fedkeras.workflows.rounds.server import RoundsWorkflow
from fedkeras.workflows.run_setup import bare_run


def main(name: str, gate_folder: str, threads: int) -> None:
    """Run the work's rounds, waiting at the gate before each."""
    config = replace(WORK[name], threads_per_client=threads)
    grid = InProcessGrid(
        client.app, config.num_partitions, config.for_clients(), {"allow": "*", "data-dir": config.data_dir}
    )
    run = bare_run(grid, config, Gated(gate_folder))
    RoundsWorkflow().train(run, initial_arrays(grid, config, run.clients))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
