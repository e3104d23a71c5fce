"""TLS for gRPC: credentials from an Access, and where plaintext is refused.

Why a connection fails all the same is found out by tls_diagnosis.py.
"""

import ipaddress
import logging

import grpc

from fedkeras.errors import UserError
from fedkeras.runtime.passphrase import Access
from fedkeras.runtime.tls_files import read_authority, read_own

log = logging.getLogger("fedkeras")


def server_credentials(access: Access) -> grpc.ServerCredentials | None:
    """For `add_secure_port`, or None without a certificate; demands clients' certificates if there is a `tls_ca`.

    Warns, once a call, of certificates that expire soon and of keys that others may read. Raises UserError if a file is
    missing or of no use.
    """
    _require_both(access)
    if not access.tls_cert:
        if access.tls_ca:
            raise UserError("--tls-client-ca needs a server that encrypts: give --tls-cert and --tls-key too")
        return None
    chain, key = read_own(access.tls_cert, access.tls_key, "server")
    clients = read_authority(access.tls_ca, "--tls-client-ca", "client") if access.tls_ca else None
    return grpc.ssl_server_credentials([(key, chain)], clients, require_client_auth=clients is not None)


def channel_credentials(access: Access) -> grpc.ChannelCredentials | None:
    """For `secure_channel`, or None without a `tls_ca`: the server's name and authority are always checked.

    Warns and raises as `server_credentials` does.
    """
    _require_both(access)
    if not access.tls_ca:
        if access.tls_cert:
            raise UserError("--tls-cert without --tls-ca: give the authority that signed the server's certificate too")
        return None
    authority = read_authority(access.tls_ca, "--tls-ca", "server")
    if not access.tls_cert:
        return grpc.ssl_channel_credentials(authority)
    chain, key = read_own(access.tls_cert, access.tls_key, "client")
    return grpc.ssl_channel_credentials(authority, key, chain)


def require_encryption_to_listen(host: str, access: Access) -> None:
    """Raise UserError if a server on `host` would be open to the network without TLS; with `insecure` only warn."""
    if is_loopback(host) or access.tls_cert:
        return
    if not access.insecure:
        raise UserError(
            f"--host is {host}, which others can reach, and nothing would be encrypted: make certificates with "
            "`python -m fedkeras certs` and give --tls-cert and --tls-key, or say --insecure"
        )
    log.warning("listening on %s without encryption (--insecure): others can read and change what is sent", host)


def require_encryption_for_passphrase(host: str, access: Access) -> None:
    """Raise UserError if a client would use its passphrase in plaintext with another machine; with `insecure` warn."""
    if access.passphrase is None or is_loopback(host) or access.tls_ca:
        return
    if not access.insecure:
        raise UserError(
            f"a passphrase would be used with {host} without encryption: give --tls-ca (the server's authority, made "
            "with `python -m fedkeras certs`), or say --insecure"
        )
    log.warning("using the passphrase with %s without encryption (--insecure)", host)


def is_loopback(host: str) -> bool:
    """True if `host` (a name, or an address with or without brackets) is this machine and can be nothing else."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if bare.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)  # ::ffff:127.0.0.1
    return (mapped or address).is_loopback


def _require_both(access: Access) -> None:
    if bool(access.tls_cert) != bool(access.tls_key):
        given, missing = ("--tls-cert", "--tls-key") if access.tls_cert else ("--tls-key", "--tls-cert")
        raise UserError(f"{given} without {missing}: a certificate and its private key are given together")
