"""A whole run in one process: server.py's and client.py's code over LocalGrid. Takes server.py's flags."""

from pathlib import Path

import client
import server
from fedkeras.config import Config
from fedkeras.runtime.local import LocalGrid

config = Config.from_flags()
grid = LocalGrid(client.app, config.num_partitions, config.for_clients())
server.train(grid, config, Path("runs"), threads=config.threads_per_client)
