"""Certificates in files and servers on real sockets, for the tests of TLS."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent import futures
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import grpc

from fedkeras.runtime.certificates import Signed, new_authority, new_client, new_server
from fedkeras.runtime.client_channel import ClientChannel
from fedkeras.runtime.passphrase import Access
from fedkeras.runtime.tls_probe import Unfit, Unreachable

LONG_AGO = datetime.now(UTC) - timedelta(days=100)
SOME_DAY = datetime.now(UTC) + timedelta(days=100)


class Files:
    """One authority's files; `stranger` is another, `old` is what expired 90 days ago, `future` not yet valid."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        authority, stranger = new_authority(LONG_AGO), new_authority()
        self.ca = self._write("ca", authority)
        self.stranger_ca = self._write("stranger-ca", stranger)
        self.old_ca = self._write("old-ca", new_authority(LONG_AGO, days=10))
        self.server = self._write("server", new_server(authority, ["a.example"]), authority)
        self.elsewhere = self._write("elsewhere", _without_loopback(authority))
        self.old_server = self._write("old-server", new_server(authority, [], LONG_AGO, days=10))
        self.future_server = self._write("future-server", new_server(authority, [], SOME_DAY))
        self.client = self._write("client", new_client(authority, "anna"))
        self.stranger = self._write("stranger", new_client(stranger, "eve"))
        self.old_client = self._write("old-client", new_client(authority, "olga", LONG_AGO, days=10))
        self.soon = self._write("soon", new_server(authority, [], days=13))

    def _write(self, name: str, signed: Signed, issuer: Signed | None = None) -> str:
        (self.folder / f"{name}.pem").write_bytes(
            signed.certificate_pem() + (issuer.certificate_pem() if issuer else b"")
        )
        key = self.folder / f"{name}-key.pem"
        key.touch(0o600)
        key.write_bytes(signed.key_pem())
        return str(self.folder / f"{name}.pem")


def key_of(cert: str) -> str:
    """The key's file beside the certificate's."""
    return cert.replace(".pem", "-key.pem")


def _without_loopback(authority: Signed) -> Signed:
    with patch("fedkeras.runtime.certificates.ALWAYS", ()):
        return new_server(authority, ["b.example", "10.0.0.7"])


class _Echo(grpc.GenericRpcHandler):
    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request + b"!")


@contextlib.contextmanager
def grpc_server(credentials: grpc.ServerCredentials | None, host: str = "127.0.0.1") -> Iterator[int]:
    """A gRPC server that answers `x` with `x!`; its port."""
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[_Echo()])
    address = f"[{host}]:0" if ":" in host else f"{host}:0"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()


def reach(target: str, access: Access) -> bytes | None:
    """The server's answer to `x` over a client's channel, or None if it cannot be reached so."""
    try:
        channel, _ = ClientChannel(target, access).open()
    except (Unfit, Unreachable):
        return None
    with channel:
        try:
            return channel.unary_unary("/any/method")(b"x", timeout=30)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE, error
            return None


def loose_credentials(cert: str, client_ca: str = "") -> grpc.ServerCredentials:
    """A server's credentials without any of our checks."""
    pair = (Path(key_of(cert)).read_bytes(), Path(cert).read_bytes())
    return grpc.ssl_server_credentials([pair], Path(client_ca).read_bytes() if client_ca else None, bool(client_ca))


@contextlib.contextmanager
def bare_server(answer, connections: int = 4) -> Iterator[int]:
    """A server without gRPC: each connection is given to `answer` and closed; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(20)

        def accept() -> None:
            for _ in range(connections):
                with contextlib.suppress(OSError):
                    connection, _ = listening.accept()
                    with connection, contextlib.suppress(OSError):
                        answer(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(20)


def ssl_answer(cert: str, client_ca: str = "", protocols: tuple[str, ...] = ("h2",), newest=ssl.TLSVersion.TLSv1_3):
    """For `bare_server`: a handshake by Python's ssl, which sends alerts where gRPC's server only closes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key_of(cert))
    context.maximum_version = newest
    if protocols:
        context.set_alpn_protocols(list(protocols))
    if client_ca:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED

    def answer(connection: socket.socket) -> None:
        connection.settimeout(5)
        with context.wrap_socket(connection, server_side=True) as encrypted:
            encrypted.sendall(b"settings")

    return answer
