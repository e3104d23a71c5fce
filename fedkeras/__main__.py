"""`python -m fedkeras COMMAND`: what is not the server and not a client."""

import importlib
import sys

from fedkeras.errors import UserError, complain

COMMANDS = {
    "demo": "a server and three clients on this machine: the first thing to try",
    "simulate": "`flwr run` with the right surroundings: virtual clients on Ray, one flag each",
    "data": "how a data set is divided among clients: counts, table, picture",
    "runs": "list the runs there are: status, data set, strategy, rounds, best, seconds",
    "compare": "is federated worth it? the same training pooled, alone, federated and split, in one table",
    "report": "a run's report as one HTML page, or several runs side by side",
    "curves": "draw a run's learning curves again",
    "aggregate": "combine model files that were trained apart into one",
    "certs": "an authority of your own, and certificates for a server and its clients",
}


def main() -> int:
    """Run the named command and return its exit status."""
    name, args = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if name in ("-h", "--help"):
        print("usage: python -m fedkeras COMMAND [flags]\n")
        for command, what in COMMANDS.items():
            print(f"  {command:<9} {what}")
        print("\n`python -m fedkeras COMMAND --help` lists a command's flags; see also server.py and client.py.")
        return 0
    program = f"python -m fedkeras {name}"
    try:
        if name not in COMMANDS:
            raise UserError(f"there is no such command; there are: {', '.join(COMMANDS)}")
        return importlib.import_module(f"fedkeras.commands.{name}").main(args)
    except UserError as error:
        return complain(program, error)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
