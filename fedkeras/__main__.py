"""`fedkeras COMMAND`, or `python -m fedkeras COMMAND`: all there is to type, the server and the client included."""

import importlib
import sys

from fedkeras.checkout import look_in_working_directory, program, typed, version
from fedkeras.errors import UserError, complain

COMMANDS = {
    "server": "wait for clients and train with them; in a checkout also python server.py",
    "client": "join a server and train on the data here; in a checkout also python client.py",
    "demo": "a server and three clients on this machine: the first thing to try",
    "simulate": "`flwr run` with the right surroundings: virtual clients on Ray, one flag each",
    "data": "how a data set is divided among clients: counts, table, picture",
    "runs": "list the runs there are: status, data set, strategy, rounds, best, seconds",
    "compare": "is federated worth it? the same training pooled, alone, federated and split, in one table",
    "report": "a run's report as one HTML page, or several runs side by side",
    "curves": "draw a run's learning curves again",
    "aggregate": "combine model files that were trained apart into one",
    "certs": "an authority of your own, and certificates for a server and its clients",
    "completion": "print a script that lets bash or zsh complete commands and flags",
}
"""Each is a module of fedkeras.commands with `main(args) -> exit status`."""


def main() -> int:
    """Run the named command and return its exit status."""
    name, args = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if name in ("-h", "--help"):
        print(f"usage: {typed('COMMAND')} [flags]\n")
        for command, what in COMMANDS.items():
            print(f"  {command:<10} {what}")
        print(f"\n`{typed('COMMAND', '--help')}` lists a command's flags; --version tells the version.")
        return 0
    if name == "--version":
        print(f"fedkeras {version()}")
        return 0
    try:
        if name not in COMMANDS:
            raise UserError(f"there is no such command; there are: {', '.join(COMMANDS)}")
        look_in_working_directory()
        return importlib.import_module(f"fedkeras.commands.{name}").main(args)
    except UserError as error:
        return complain(program(name), error)
    except KeyboardInterrupt:
        print(f"{program(name)}: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
