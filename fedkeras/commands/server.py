"""`fedkeras server`: wait for clients and train with them. In a checkout `python server.py` is the same."""

import sys
from collections.abc import Sequence

from fedkeras import server


def main(args: Sequence[str]) -> int:
    """Run server.py's command, which reads sys.argv; returns its exit status."""
    sys.argv[1:] = args
    return server.command()
