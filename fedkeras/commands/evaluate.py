"""`fedkeras evaluate RUN`: the final or any kept model of a run, tested again. A server's run that trains nothing.

It is `server.py --evaluate RUN` with clients of its own on this machine, unless --host says where others join.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from fedkeras.checkout import program
from fedkeras.config import Config
from fedkeras.errors import UserError, complain
from fedkeras.fields import OPTIONS, Count, FlagGroup, setting
from fedkeras.flags import parse_flags
from fedkeras.reports import resuming

PROG = program("evaluate")
CLIENTS = FlagGroup(
    "joining", "Where real clients join, each with its own data; without --host they are on this machine."
)
HERE = {
    "host": "127.0.0.1", "port": 0, "passphrase_file": "", "tls_cert": "", "tls_key": "", "tls_client_ca": "",
    "insecure": False,
}  # fmt: skip
"""Where clients on this machine join: nobody else."""


@dataclass(frozen=True)
class EvaluateFlags:
    """Test a run's model again, on what its clients hold out and on the central test set. RUN is left as it is.

    The figures of the final model are, to the bit, those of the run's last round. What comes of it is a new folder.
    """

    run_dir: Annotated[Positional[str], arg(metavar="RUN")]
    """A run's folder, such as runs/20260131-142233-digits-fedavg."""
    checkpoint: str = setting("final", OPTIONS)
    """Which model: final, best, or the number of a round that has a checkpoint."""
    clients: str = setting("all", OPTIONS)
    """Who tests it: all, none (the central test set alone), or client ids such as 0-9 or 0,2,5."""
    data_dir: str = setting("", OPTIONS)
    """Where the data set's files are now; unset: as in the run."""
    into: str = setting("", OPTIONS)
    """Folder that gets the folder of this test; unset: ./runs."""
    processes: Count = setting(1, OPTIONS)
    """Client processes on this machine."""
    trust_code: bool = setting(False, OPTIONS)
    """Load the run's model file even if it brings code."""
    host: str = setting("", CLIENTS)
    """Address to listen on for clients that join with client.py, such as 0.0.0.0; unset: none join."""
    port: int = setting(9080, CLIENTS)
    """Port to listen on."""
    passphrase_file: str = setting("", CLIENTS)
    """File with the passphrase that clients must know; or set FEDKERAS_PASSPHRASE."""
    tls_cert: str = setting("", CLIENTS)
    """The server's certificate chain (PEM)."""
    tls_key: str = setting("", CLIENTS)
    """The private key of tls-cert (PEM)."""
    tls_client_ca: str = setting("", CLIENTS)
    """Demand of clients a certificate of this authority (PEM)."""
    insecure: bool = setting(False, CLIENTS)
    """Plaintext, or anybody may join."""
    node_timeout: float = setting(300.0, CLIENTS)
    """Seconds to wait for them."""


def main(args: Sequence[str]) -> int:
    """Test, print the table, and return the exit status."""
    try:
        flags = parse_flags(EvaluateFlags, list(args), PROG)
        config = configuration(flags)
    except UserError as error:
        return complain(PROG, error)
    from fedkeras import server  # gRPC and Flower, which a mistake need not wait for

    return server.command(lambda: config, "evaluate")


def configuration(flags: EvaluateFlags) -> Config:
    """The run's settings, with what these flags say. Raises UserError."""
    own = {
        "evaluate_round": flags.checkpoint,
        "evaluate_clients": flags.clients,
        "run_dir": flags.into,
        "trust_code": flags.trust_code,
        "node_timeout": flags.node_timeout,
    }
    own |= {"data_dir": flags.data_dir} if flags.data_dir else {}
    if flags.host:
        own |= {name: getattr(flags, name) for name in HERE}
    else:
        for name, default in HERE.items():
            typed = getattr(flags, name)
            if name not in ("host", "port") and typed != default:
                raise UserError(f"--{name.replace('_', '-')} is for clients that join: --host says where")
        own |= HERE

    def typed_over(saved: Config) -> Config:
        spawn = 0 if flags.host or flags.clients == "none" else min(flags.processes, saved.num_partitions)
        if spawn and saved.partitioner == "own":
            raise UserError(
                "this run's clients have files of their own: --host says where they join again, and --clients none "
                "tests on the central test set alone"
            )
        return dataclasses.replace(saved, **own, spawn=spawn)

    return resuming.settings(Config(evaluate=flags.run_dir), typed_over)
