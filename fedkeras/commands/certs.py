"""`fedkeras certs DIR --host NAME ...`: an authority, and certificates for a server and its clients."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, UseAppendAction, arg

from fedkeras.address import is_loopback
from fedkeras.checkout import program, typed
from fedkeras.cids import cids_text, parse_cids
from fedkeras.commands.certs_folder import CertsFolder
from fedkeras.errors import UserError, complain
from fedkeras.flags import parse_flags
from fedkeras.runtime.certificates import ALWAYS, Signed, cids_in, fingerprint, names_in

PROG = program("certs")
MOST_DAYS = 3650

Words = UseAppendAction[tuple[tuple[str, ...], ...]]
"""`--host a b`, `--host a --host b` and `--host a,b` say the same."""


@dataclass(frozen=True)
class CertsFlags:
    """Make an authority (ca.pem), and certificates for a server and for clients.

    What DIR already has is kept, and added to.
    """

    directory: Annotated[Positional[str], arg(metavar="DIR")]
    """Folder of the files. Its authority, once made, signs whatever is made there later."""
    host: Annotated[Words, arg(metavar="NAME [NAME ...]")] = ()
    """Names and addresses by which clients reach the server, as in a.example 192.168.1.5; localhost always is one."""
    client: Annotated[Words, arg(metavar="NAME [NAME ...]")] = ()
    """Make certificates for clients of these names, for a server with --tls-client-ca."""
    cid: str = ""
    """The clients, such as 3 or 0-9, that whoever has the --client's certificate may be, and no other; unset: any."""
    days: int = 365
    """How long the server's and clients' certificates are valid; the authority is for ten years."""
    force: bool = False
    """Replace certificates that are there, never the authority; without --host the server keeps its names."""


def main(args: Sequence[str]) -> int:
    """Make the files, say what was made and how it is used, and return the exit status."""
    try:
        flags = parse_flags(CertsFlags, list(args), PROG)
        if not 1 <= flags.days <= MOST_DAYS:
            raise UserError(f"--days must be at least 1 and at most {MOST_DAYS}, not {flags.days}")
        hosts, clients = _words(flags.host, "host"), _words(flags.client, "client")
        folder = CertsFolder(Path(flags.directory).expanduser())
        made = folder.make(hosts, clients, flags.days, flags.force, _cids(flags.cid, clients))
    except UserError as error:
        return complain(PROG, error)
    _report(folder, made, clients)
    return 0


def _cids(text: str, clients: list[str]) -> list[int]:
    if not text:
        return []
    if len(clients) != 1:
        raise UserError("--cid says which clients one --client NAME may be: give one name")
    try:
        return parse_cids(text)
    except ValueError:
        raise UserError(f"--cid is '{text}'; give a number like 3, a range like 0-9, or 0,2,5") from None


def _words(given: tuple[tuple[str, ...], ...], flag: str) -> list[str]:
    words = [word for group in given for part in group for word in part.split(",")]
    if not all(words) or not all(given):
        raise UserError(f"--{flag} needs a name")
    return list(dict.fromkeys(words))


def _report(folder: CertsFolder, made: dict[str, Signed], clients: list[str]) -> None:
    for name, signed in made.items():
        certificate = signed.certificate
        whom = f" for {', '.join(names_in(certificate))}" if names_in(certificate) else ""
        whom = f" for client {cids_text(cids)}" if (cids := cids_in(certificate)) else whom
        print(f"{folder.path / name}{whom}, valid until {certificate.not_valid_after_utc:%Y-%m-%d}")
    authority = folder.certificate("ca.pem")
    if "ca.pem" not in made:
        print(f"signed by {folder.path / 'ca.pem'}, valid until {authority.not_valid_after_utc:%Y-%m-%d}")
    print(f"fingerprint of the authority (SHA-256): {fingerprint(authority)}")

    names = names_in(folder.certificate("server.pem")) if folder.has("server.pem") else []
    reached = [name for name in names if name not in ALWAYS and not is_loopback(name)]
    host = reached[0] if reached else "127.0.0.1"
    demand = ["--tls-client-ca", folder.path / "ca.pem"] if clients else []
    listen = ["--host", "0.0.0.0"] if reached else []
    own = ["--tls-cert", f"client-{clients[0]}.pem", "--tls-key", f"client-{clients[0]}-key.pem"] if clients else []
    server = ["--tls-cert", folder.path / "server.pem", "--tls-key", folder.path / "server-key.pem"]
    # Certificates of clients' own show who may join; without them a passphrase must, where others reach the server.
    secret = ["--passphrase-file", "passphrase"] if reached and not clients else []
    address = f"[{host}]:9080" if ":" in host else f"{host.replace('*', 'SERVER')}:9080"
    named = cids_in(folder.certificate(f"client-{clients[0]}.pem")) if clients else None
    cid = cids_text(named) if named else "N"
    print()
    if secret:
        print("once:   ", program("passphrase"), "passphrase")
    print("server: ", typed("server", *listen, *server, *demand, *secret))
    print("clients:", typed("client", "--cid", cid, "--server", address, "--tls-ca", "ca.pem", *own, *secret))
    theirs = ", and each its own client-NAME.pem and client-NAME-key.pem" if clients else ""
    print(f"\nGive clients ca.pem{theirs}. All *-key.pem stay secret; who has ca-key.pem can pose as any server.")
    if not reached and names:
        print("The server's certificate is good on this machine only: --force --host NAME makes one for others.")
