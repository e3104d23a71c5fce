"""fedkeras with all clients in one process, for the simulation benchmark.

python -m benchmarks.in_process A GATE THREADS
"""

import sys
from dataclasses import replace

from benchmarks.gate import Gated
from benchmarks.workloads import WORK
from fedkeras import client
from fedkeras.federation.client_manager import ClientManager
from fedkeras.federation.initial_weights import initial_arrays
from fedkeras.runtime.in_process import InProcessGrid
from fedkeras.workflows.rounds.server import run_rounds


def main(name: str, gate_folder: str, threads: int) -> None:
    """Run the work's rounds, waiting at the gate before each."""
    config = replace(WORK[name], threads_per_client=threads)
    grid = InProcessGrid(client.app, config.num_partitions, config.to_run_config())
    nodes = ClientManager(grid, config)
    run_rounds(Gated(gate_folder), grid, nodes, initial_arrays(grid, config, nodes), config)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
