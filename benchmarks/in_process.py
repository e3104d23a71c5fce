"""fedkeras with all clients in one process, for the simulation benchmark.

python -m benchmarks.in_process A GATE THREADS
"""

import sys
from dataclasses import replace

import client
from benchmarks.gate import Gated
from benchmarks.workloads import WORK
from fedkeras.runtime.local import LocalGrid
from strategies.nodes import Nodes
from strategies.rounds import run_rounds
from strategies.start import initial_arrays


def main(name: str, gate_folder: str, threads: int) -> None:
    """Run the work's rounds, waiting at the gate before each."""
    config = replace(WORK[name], threads_per_client=threads)
    grid = LocalGrid(client.app, config.num_partitions, config.to_run_config())
    nodes = Nodes(grid, config)
    run_rounds(Gated(gate_folder), grid, nodes, initial_arrays(grid, config, nodes), config)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
