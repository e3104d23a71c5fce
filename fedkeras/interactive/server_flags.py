"""The flags of server.py, and its configuration: from a command line, or from a person's answers."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from fedkeras.checkout import program
from fedkeras.config import PROCESS, Config
from fedkeras.errors import UserError
from fedkeras.fields import embedded, setting
from fedkeras.flags import parse_flags
from fedkeras.reports import resuming

INTERACTIVE = "--interactive"


@dataclass(frozen=True)
class ServerFlags:
    """Wait for clients, train with them, and leave a folder with all that came of it."""

    config: Config = embedded(Config)
    interactive: bool = setting(False, PROCESS)
    """Ask for what a run needs, question by question, and show the command that says the same."""


def from_flags() -> Config:
    """server.py's configuration: from its command line, or from a person's answers with `--interactive`.

    With --interactive the other flags are the defaults. Raises UserError, and KeyboardInterrupt if in the end it is not
    to be started.
    """
    args = sys.argv[1:]
    if INTERACTIVE not in args or {"-h", "--help"} & {*args}:
        return resuming.from_flags(args, program("server"), _read)
    given = _read([word for word in args if word != INTERACTIVE], program("server"), None)
    if given.resume:
        raise UserError(f"--resume goes on with the run's own settings, so there is nothing to ask: drop {INTERACTIVE}")
    if given.app:
        raise UserError(f"{INTERACTIVE} asks about our own training; another app's settings are --app-config's")
    from fedkeras.interactive.guide import ask  # takes gRPC, which a flag's mistake need not wait for

    return ask(given)


def _read(args: Sequence[str] | None, prog: str, default: Config | None) -> Config:
    return parse_flags(ServerFlags, args, prog, None if default is None else ServerFlags(default)).config
