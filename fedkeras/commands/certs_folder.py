"""A folder of certificates: ca.pem, server.pem and client-NAME.pem, each with its key in ...-key.pem."""

import contextlib
import os
import re
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fedkeras.errors import UserError
from fedkeras.runtime.certificates import (
    Signed,
    general_name,
    names_in,
    new_authority,
    new_client,
    new_server,
)

_CLIENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,59}")


class CertsFolder:
    """Reads and extends the folder `path`, which need not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(
        self, hosts: list[str], clients: list[str], days: int, force: bool, cids: Collection[int] = ()
    ) -> dict[str, Signed]:
        """Make what is asked for, and the authority and the server's certificate if they are not there yet.

        What cannot be done is found before anything is written. Returns what was made, by name of the certificate's
        file. `cids` are those that the clients may be; none: any. Raises UserError.
        """
        for host in hosts:
            general_name(host)
        for client in clients:
            _check_client(client)
        old = self._authority()
        made = {} if old else {"ca.pem": new_authority()}
        authority = old or made["ca.pem"]
        there = self.has("server.pem")
        if hosts or not there or (force and not clients):
            names = hosts or (names_in(self.certificate("server.pem")) if there else [])
            made["server.pem"] = new_server(authority, names, days=days)
        made |= {f"client-{name}.pem": new_client(authority, name, days=days, cids=cids) for name in clients}
        if not made:
            raise UserError(
                f"{self.path} has an authority and a server's certificate: give --client NAME for a client's, or "
                "--force to renew the server's"
            )
        if not force:
            self._refuse_to_replace(made)
        self._write(made, authority)
        return made

    def has(self, name: str) -> bool:
        """True if there is a file of this name."""
        return os.path.lexists(self.path / name)

    def certificate(self, name: str) -> x509.Certificate:
        """The first certificate in a file of the folder. Raises UserError."""
        try:
            return x509.load_pem_x509_certificates(self._read(name))[0]
        except ValueError as error:
            raise UserError(f"{self.path / name} holds no certificate: {str(error)[:80]}") from error

    def _authority(self) -> Signed | None:
        certificate_there, key_there = self.has("ca.pem"), self.has("ca-key.pem")
        if not certificate_there and not key_there:
            return None
        if not (certificate_there and key_there):
            here, gone = ("ca.pem", "ca-key.pem") if certificate_there else ("ca-key.pem", "ca.pem")
            raise UserError(f"{self.path} has {here} but not {gone}: sign where both are, or take another folder")
        certificate = self.certificate("ca.pem")
        try:
            key = load_pem_private_key(self._read("ca-key.pem"), None)
        except (TypeError, ValueError) as error:
            raise UserError(f"{self.path / 'ca-key.pem'} holds no key to sign with: {str(error)[:80]}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise UserError(f"{self.path / 'ca-key.pem'} is not a key that this command made: take another folder")
        if key.public_key() != certificate.public_key():
            raise UserError(f"{self.path / 'ca-key.pem'} is not the key of {self.path / 'ca.pem'}")
        until = certificate.not_valid_after_utc
        if until < datetime.now(UTC):
            raise UserError(f"the authority in {self.path} expired on {until:%Y-%m-%d}: make a new one in a new folder")
        return Signed(certificate, key)

    def _refuse_to_replace(self, made: dict[str, Signed]) -> None:
        for name in made:
            for there in filter(self.has, (name, _key_name(name))):
                raise UserError(f"{self.path / there} is there already; --force replaces it")

    def _write(self, made: dict[str, Signed], authority: Signed) -> None:
        try:
            if self.path.exists() and not self.path.is_dir():
                raise UserError(f"{self.path} is a file; DIR must be a folder")
            self.path.mkdir(parents=True, exist_ok=True)
            for name, signed in made.items():
                # With its authority a server's file is what clients on the same machine can be given as --tls-ca.
                chain = signed.certificate_pem() + (authority.certificate_pem() if name == "server.pem" else b"")
                _replace(self.path / _key_name(name), signed.key_pem(), 0o600)
                _replace(self.path / name, chain, 0o644)
        except OSError as error:
            raise UserError(f"cannot write {error.filename or self.path}: {error.strerror or error}") from error

    def _read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {self.path / name}: {error.strerror or error}") from error


def _replace(path: Path, content: bytes, mode: int) -> None:
    """Write beside `path` and rename. The mode is there from the start: no moment in which others could open a key."""
    beside = path.with_name(f".{path.name}.tmp")
    beside.unlink(missing_ok=True)  # a killed process's
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _key_name(name: str) -> str:
    return f"{name.removesuffix('.pem')}-key.pem"


def _check_client(name: str) -> None:
    # client-a-key.pem would be the key of a and the certificate of a-key.
    if not _CLIENT.fullmatch(name) or name.endswith("-key"):
        raise UserError(
            f"--client {name!r} is no name for a file: letters, digits, '_', '-', '.' and '@', at most 60, and "
            "not '-key' at the end"
        )
