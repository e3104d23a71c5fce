"""`fedkeras completion SHELL`: a script after which the shell completes commands, flags and their values."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Union

import tyro

from fedkeras.checkout import program
from fedkeras.flags import form, parse_flags

FLAGS = {
    "server": "fedkeras.interactive:ServerFlags",
    "client": "fedkeras.client_config:ClientConfig",
    "demo": "fedkeras.commands.demo:DemoFlags",
    "simulate": "fedkeras.commands.simulate:SimulateFlags",
    "data": "fedkeras.commands.data:DataFlags",
    "runs": "fedkeras.commands.runs:RunsFlags",
    "compare": "fedkeras.compare.settings:Settings",
    "report": "fedkeras.commands.report:ReportFlags",
    "curves": "fedkeras.commands.curves:CurvesFlags",
    "aggregate": "fedkeras.commands.aggregate:AggregateFlags",
    "certs": "fedkeras.commands.certs:CertsFlags",
    "completion": "fedkeras.commands.completion:CompletionFlags",
}
"""The dataclass of each command's flags. By name: what one command needs is not imported for another."""


@dataclass(frozen=True)
class CompletionFlags:
    """Print a completion script for `fedkeras`; put it where your shell looks, as the documentation shows."""

    shell: Annotated[tyro.conf.Positional[Literal["bash", "zsh"]], tyro.conf.arg(metavar="SHELL")]
    """bash or zsh."""


def main(args: Sequence[str]) -> int:
    """Print the script; returns 0."""
    flags = parse_flags(CompletionFlags, list(args), program("completion"))
    commands = [Annotated[form(_flags_of(name)), tyro.conf.subcommand(name, prefix_name=False)] for name in FLAGS]
    try:
        # tyro prints the script of a union's subcommands, and leaves by SystemExit
        tyro.cli(Union[tuple(commands)], prog="fedkeras", args=["--tyro-print-completion", flags.shell])  # noqa: UP007
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _flags_of(name: str) -> type:
    module, _, kind = FLAGS[name].partition(":")
    return getattr(importlib.import_module(module), kind)
