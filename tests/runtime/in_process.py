"""A whole run in one process: server.py's and client.py's code over InProcessGrid. Takes server.py's flags."""

from pathlib import Path

from fedkeras import client, server
from fedkeras.config import Config
from fedkeras.named_code import EVERYTHING_NAMED
from fedkeras.runtime.in_process import InProcessGrid

config = Config.from_flags()
grid = InProcessGrid(client.app, config.num_partitions, config.for_clients(), {"allow": EVERYTHING_NAMED})
server.train(grid, config, Path("runs"), threads=config.threads_per_client)
