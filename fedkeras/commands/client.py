"""`fedkeras client`: join a server and train on the data here. In a checkout `python client.py` is the same."""

import sys
from collections.abc import Sequence

from fedkeras import client


def main(args: Sequence[str]) -> int:
    """Run client.py's command, which reads sys.argv, and end the process as it does, with its exit status."""
    sys.argv[1:] = args
    client.leave(client.main())
    return 0  # not reached
