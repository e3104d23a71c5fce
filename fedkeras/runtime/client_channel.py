"""How a client connects: in plaintext, or by TLS to the one server whose certificate it has just seen.

Python's gRPC shows a client no certificate, and the login must be bound to it. So the certificate is fetched first, and
gRPC's connection then trusts this certificate and no other. Where an authority is given, the fetched certificate has
passed its check; else the login shows that it is the right one (handshake.py).
"""

import logging

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from fedkeras.address import is_loopback
from fedkeras.errors import UserError
from fedkeras.runtime import tls, wire
from fedkeras.runtime.certificates import names_in
from fedkeras.runtime.channel import CONNECT_SECONDS, channel_options
from fedkeras.runtime.passphrase import Access
from fedkeras.runtime.tls_files import read_authority, read_own
from fedkeras.runtime.tls_probe import Unfit, diagnose, fetch_certificate

log = logging.getLogger("fedkeras")


class ClientChannel:
    """Opens channels to `server` (host:port), as `access` demands.

    Warns of files that expire soon or that others may read. Raises UserError if a file is of no use.
    """

    def __init__(self, server: str, access: Access) -> None:
        tls.require_both(access)
        self._server, self._access = server, access
        host, _, port = server.rpartition(":")
        self._host, self._port = host, int(port)
        self.encrypts = tls.encrypts(host, access)
        self._own: tuple[bytes, bytes] | None = None
        self._certificate = b""
        if access.tls_cert and not access.tls_ca and access.passphrase is None:
            raise UserError(
                "--tls-cert without --tls-ca or a passphrase: give the authority that signed the server's certificate"
            )
        if access.tls_ca:
            read_authority(access.tls_ca, "--tls-ca", "server")
        if access.tls_cert:
            self._own = read_own(access.tls_cert, access.tls_key, "client")
        if not self.encrypts and access.passphrase is not None and not is_loopback(host):
            log.warning("using the passphrase with %s without encryption (--insecure)", host)

    @property
    def knows_server(self) -> bool:
        """False if nothing but a login can tell the server from another one that answers in its place."""
        return bool(self._access.tls_ca) or self._access.insecure or is_loopback(self._host)

    def open(self) -> tuple[grpc.Channel, bytes]:
        """A new channel, and the certificate of the server at its other end (DER; empty without TLS).

        Raises Unreachable, or Unfit for what no further attempt changes as long as the server is the same.
        """
        self._certificate = b""
        options = channel_options(wire.TO_SERVER.max_frame_bytes, wire.TO_CLIENT.max_frame_bytes)
        if not self.encrypts:
            return grpc.insecure_channel(self._server, options), b""
        self._certificate = fetch_certificate(self._host, self._port, self._access, CONNECT_SECONDS)
        shown = x509.load_der_x509_certificate(self._certificate)
        chain, key = self._own or (None, None)
        credentials = grpc.ssl_channel_credentials(shown.public_bytes(Encoding.PEM), key, chain)
        options = [*options, ("grpc.ssl_target_name_override", _any_name(shown))]
        return grpc.secure_channel(self._server, credentials, options), self._certificate

    def diagnose(self) -> UserError | None:
        """Why the channel that was opened last does not connect, if a reason is found."""
        if self.encrypts and not self._certificate:
            return None  # nothing was there, or fetch_certificate has said why
        return diagnose(self._host, self._port, self._access, self._certificate)


def _any_name(certificate: x509.Certificate) -> str:
    """A name that the certificate has: it is pinned, so that gRPC's look at names has nothing to add."""
    names = names_in(certificate) or certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not names:
        raise Unfit("the server's certificate has no name at all: make one with `python -m fedkeras certs`")
    return names[0] if isinstance(names[0], str) else str(names[0].value)
