"""`fedkeras supernode [flags of flower-supernode]`: Flower's SuperNode with an executor that stays.

Flower's own starts a process for every message, which imports TensorFlow, loads the data and builds the model, all for
one training. Beside this one a process stays for as long as a run does.
"""

import importlib.metadata
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from fedkeras.checkout import ROOT, is_checkout, program
from fedkeras.errors import UserError
from fedkeras.fields import FlagGroup, setting
from fedkeras.output import outlast

PROG = program("supernode")
KNOWN = ("1.41", "1.42")
"""Versions of Flower whose Runtime API is the one that `fedkeras.flower.runtime_api` speaks."""

FLOWERS = FlagGroup("SuperNode", "Flower's flags, passed on as they are; these are the most used of them.")


@dataclass(frozen=True)
class SuperNodeFlags:
    """Start flower-supernode with an executor that keeps model, graph and data from message to message.

    All flags are flower-supernode's, and passed on to it.
    """

    superlink: str = setting("", FLOWERS)
    """HOST:PORT of the SuperLink."""
    node_config: str = setting("", FLOWERS)
    """What is this node's own: "partition-id=0 num-partitions=3 data-dir='/srv/data'"."""
    port: int = setting(0, FLOWERS)
    """The port on which the executor finds the SuperNode; unset: a free one, where flower-supernode takes 9094."""
    insecure: bool = setting(False, FLOWERS)
    """No TLS between this SuperNode and the SuperLink."""
    root_certificates: str = setting("", FLOWERS)
    """The authority that signed the SuperLink's certificate (PEM)."""


HELP = f"""usage: {PROG} [-h] [flags of flower-supernode]

Start flower-supernode, and beside it one executor: a process that answers the SuperNode's messages, and keeps
model, compiled graph and data from message to message, where Flower's own starts a process for each. All flags
are flower-supernode's (below) and passed on to it; what is ours of them:

  --port PORT           the port on which the executor finds the SuperNode; if it is not given, a free one is
                        taken, so that several SuperNodes of one machine need none
  --isolation process   the only one there is here
  --superexec-auth-secret-file, --allow-runtime-dependency-installation
                        not allowed: the secret is made anew for every start, and the executor runs what is
                        installed here. The code in a run's bundle is not run: it must be the same as this

flags of flower-supernode:
"""


def main(args: Sequence[str]) -> int:
    """Run until the SuperNode ends. Returns the exit status: 3 if it ended by itself. Raises UserError, RunFailed."""
    _require_known_flower()
    try:
        from fedkeras.flower import runtime_api
        from fedkeras.runtime import warm_supernode
    except ImportError as error:
        raise UserError(f"{_other_flower()} ({error})") from error

    if {"-h", "--help"} & {*args}:
        print(HELP + runtime_api.supernode_help())
        raise SystemExit(0)
    if os.name == "nt":
        raise UserError("this needs Linux or macOS; flower-supernode itself may run")
    flags = runtime_api.supernode_flags(list(args), _refuse)
    if flags.isolation == "subprocess":
        raise UserError("--isolation subprocess is what flower-supernode alone does: use that")
    if flags.superexec_auth_secret_file is not None:
        raise UserError("--superexec-auth-secret-file: leave it out, a secret is made for every start")
    if flags.runtime_dependency_install:
        raise UserError("--allow-runtime-dependency-installation: leave it out, the executor runs what is installed")
    if flags.port and warm_supernode.is_taken(flags.host, flags.port):
        raise UserError(f"--port {flags.port} is in use on {flags.host}: give another, or none for a free one")
    port = flags.port or warm_supernode.free_port(flags.host)
    authority = str(Path(flags.ssl_ca_certfile).expanduser()) if flags.ssl_certfile else ""
    endpoint = runtime_api.ApiAddress(runtime_api.address_of(flags.host, port), authority)
    commands = warm_supernode.Commands(
        [*_python("fedkeras.runtime.warm_supernode", "run_supernode"), *args, "--port", str(port)],
        [*_python("fedkeras.commands.supernode_executor", "run"), endpoint.address, endpoint.root_certificates],
    )
    outlast()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with warm_supernode.running(endpoint, commands, say) as warm:
        warm.serve()
    return 0  # not reached: it serves until something ends


def say(text: str) -> None:
    """One line on the terminal, between those of the SuperNode."""
    print(f"{PROG}: {text}", file=sys.stderr, flush=True)


def _python(module: str, function: str) -> list[str]:
    """The command line of a process that calls a function of this very code, wherever it is started."""
    where = "sys.path.insert(0, sys.argv.pop(1))" if is_checkout() else "sys.argv.pop(1)"
    code = f"import sys; {where}; import fedkeras; from {module} import {function}; sys.exit({function}())"
    return [sys.executable, "-P", "-c", code, str(ROOT)]


def _require_known_flower() -> None:
    if not importlib.metadata.version("flwr").startswith(tuple(f"{one}." for one in KNOWN)):
        raise UserError(_other_flower())


def _other_flower() -> str:
    version, known = importlib.metadata.version("flwr"), " and ".join(KNOWN)
    return f"this knows flwr {known}, and {version} is installed: use flower-supernode, whose rounds take longer"


def _refuse(message: str) -> NoReturn:
    raise UserError(f"{message}; `{PROG} --help` lists all flags")
