"""What a connection is protected by: TLS wherever there is a passphrase, a certificate or another machine.

Loopback without a passphrase is plain, and `--insecure` alone permits plaintext elsewhere. A server without certificate
files makes itself one. A client pins the certificate that the server shows (client_channel.py): the login, or an
authority, says whose it is.
"""

import logging
from dataclasses import dataclass

import grpc

from fedkeras.address import is_loopback
from fedkeras.errors import UserError
from fedkeras.runtime.certificates import der, new_self_signed
from fedkeras.runtime.passphrase import SHORT, Access
from fedkeras.runtime.tls_files import read_authority, read_certificates, read_own

log = logging.getLogger("fedkeras")


@dataclass(frozen=True)
class ServerChannel:
    """What a server listens with: gRPC's credentials and its certificate (DER), None and empty for plaintext.

    `protection` says in a few words what that is.
    """

    credentials: grpc.ServerCredentials | None
    certificate: bytes
    protection: str


def server_channel(host: str, access: Access) -> ServerChannel:
    """For a server that listens on `host`, with the certificate in files, or one made for as long as it runs.

    It demands clients' certificates if there is a `tls_ca`. Warns of certificates that expire soon, of keys that others
    may read, and of what `insecure` permits. Raises UserError if a file is missing or of no use, and where anybody on
    the network could join or read.
    """
    require_both(access)
    _require_proof_of_clients(host, access)
    if not encrypts(host, access):
        return ServerChannel(None, b"", _protection(host, access))
    if access.tls_cert:
        chain, key = read_own(access.tls_cert, access.tls_key, "server")
        certificate = read_certificates(access.tls_cert, "--tls-cert")[0]
    else:
        if access.passphrase is None:
            raise UserError("--tls-client-ca needs a server that clients can know: give --tls-cert and --tls-key too")
        own = new_self_signed()
        chain, key, certificate = own.certificate_pem(), own.key_pem(), own.certificate
    clients = read_authority(access.tls_ca, "--tls-client-ca", "client") if access.tls_ca else None
    credentials = grpc.ssl_server_credentials([(key, chain)], clients, require_client_auth=clients is not None)
    return ServerChannel(credentials, der(certificate), _protection(host, access))


def encrypts(host: str, access: Access) -> bool:
    """True if a server on this host, or a client of a server there, uses TLS."""
    if access.tls_cert or access.tls_ca:
        return True
    return not access.insecure and (access.passphrase is not None or not is_loopback(host))


def require_both(access: Access) -> None:
    """Raise UserError if there is a certificate without its key, or a key without its certificate."""
    if bool(access.tls_cert) != bool(access.tls_key):
        given, missing = ("--tls-cert", "--tls-key") if access.tls_cert else ("--tls-key", "--tls-cert")
        raise UserError(f"{given} without {missing}: a certificate and its private key are given together")


def _require_proof_of_clients(host: str, access: Access) -> None:
    """Raise UserError if others could reach a server that lets anybody join (with `insecure` only warn), or guess."""
    if is_loopback(host):
        return
    if access.passphrase is not None and len(access.passphrase) < SHORT:
        raise UserError(
            f"--host is {host}, which others can reach, and the passphrase has less than {SHORT} characters: it could "
            "be guessed; write a better one with `python -m fedkeras passphrase FILE`"
        )
    plain = not encrypts(host, access)
    anybody = access.passphrase is None and not access.tls_ca
    if anybody and not access.insecure:
        raise UserError(
            f"--host is {host}, which others can reach, and anybody could join: write a passphrase with `python -m "
            "fedkeras passphrase FILE` and give --passphrase-file FILE on both sides, or say --insecure"
        )
    if plain or anybody:
        what = [*["anybody may join"] * anybody, *["others can read and change what is sent"] * plain]
        log.warning("listening on %s with --insecure: %s", host, ", and ".join(what))


def _protection(host: str, access: Access) -> str:
    who = [*["the passphrase"] * (access.passphrase is not None), *["a certificate"] * bool(access.tls_ca)]
    where = "anybody on this machine" if is_loopback(host) else "ANYBODY"
    joins = f"{where} may join" if not who else f"clients need {' and '.join(who)}"
    how = "encrypted" if encrypts(host, access) else "not encrypted" if is_loopback(host) else "NOT ENCRYPTED"
    return f"{how}, {joins}"
