"""`fedkeras completion SHELL`: a script after which the shell completes commands, flags and their values."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Union

import tyro

from fedkeras.checkout import program
from fedkeras.commands import COMMANDS
from fedkeras.flags import form, parse_flags


@dataclass(frozen=True)
class CompletionFlags:
    """Print a completion script for `fedkeras`; put it where your shell looks, as the documentation shows."""

    shell: Annotated[tyro.conf.Positional[Literal["bash", "zsh"]], tyro.conf.arg(metavar="SHELL")]
    """bash or zsh."""


def main(args: Sequence[str]) -> int:
    """Print the script; returns 0."""
    flags = parse_flags(CompletionFlags, list(args), program("completion"))
    commands = [Annotated[form(flags_of(name)), tyro.conf.subcommand(name, prefix_name=False)] for name in COMMANDS]
    try:
        # tyro prints the script of a union's subcommands, and leaves by SystemExit
        tyro.cli(Union[tuple(commands)], prog="fedkeras", args=["--tyro-print-completion", flags.shell])  # noqa: UP007
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def flags_of(name: str) -> type:
    """The dataclass of a command's flags."""
    module, _, kind = COMMANDS[name].flags.partition(":")
    return getattr(importlib.import_module(module), kind)
