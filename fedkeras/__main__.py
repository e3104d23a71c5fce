"""`fedkeras COMMAND`, or `python -m fedkeras COMMAND`: all there is to type, the server and the client included."""

import importlib
import sys

from fedkeras.checkout import look_in_working_directory, program, typed, version
from fedkeras.commands import COMMANDS
from fedkeras.errors import UserError, complain
from fedkeras.output import outlast


def main() -> int:
    """Run the named command and return its exit status."""
    outlast()
    name, args = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if name in ("-h", "--help"):
        print(f"usage: {typed('COMMAND')} [flags]\n")
        for one, command in COMMANDS.items():
            print(f"  {one:<10} {command.what}")
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
