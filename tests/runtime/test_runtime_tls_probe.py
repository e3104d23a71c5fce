"""Each reason for which a client and a server do not agree on encryption is found on real sockets, in time."""

import contextlib
import re
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
from cryptography import x509
from tls_servers import Files, bare_server, grpc_server, key_of, loose_credentials, ssl_answer

from fedkeras.errors import UserError
from fedkeras.runtime.certificates import der
from fedkeras.runtime.passphrase import Access, NeedsPassphrase
from fedkeras.runtime.tls_probe import Unfit, Unreachable, diagnose, fetch_certificate


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("pem"))


def said(
    port: int,
    ca: str = "",
    cert: str = "",
    host: str = "127.0.0.1",
    timeout: float = 10.0,
    passphrase: str | None = None,
) -> str:
    """Why this client cannot connect: as its certificate is fetched, or when that is pinned; '' for no reason found."""
    access = Access(passphrase, tls_ca=ca, tls_cert=cert, tls_key=key_of(cert))
    certificate = b""
    try:
        if ca or cert or passphrase:
            certificate = fetch_certificate(host, port, access, timeout)
        error = diagnose(host, port, access, certificate, timeout)
    except Unreachable:
        return ""
    except Unfit as unfit:
        error = unfit
    assert error is None or (isinstance(error, UserError) and "\n" not in str(error))
    return str(error or "")


def test_nothing_is_wrong(files: Files) -> None:
    with grpc_server(None) as port:
        assert said(port) == ""
    with grpc_server(loose_credentials(files.server)) as port:
        assert said(port, files.ca) == ""
        assert said(port, files.ca, host="localhost") == ""
        assert said(port, files.server) == ""
        assert said(port, files.ca, files.client) == ""  # not asked for, no harm
    with grpc_server(loose_credentials(files.elsewhere)) as port:
        assert "10.0.0.7" in said(port, files.elsewhere)  # pinned, as gRPC allows; yet the name must fit
    with grpc_server(loose_credentials(files.server, files.ca)) as port:
        assert said(port, files.ca, files.client) == ""


def test_only_one_side_encrypts(files: Files) -> None:
    with grpc_server(None) as port:
        line = f"the server at 127.0.0.1:{port} does not encrypt: leave out --tls-ca, or start it"
        for _ in range(10):  # the answer is a matter of who is faster
            assert said(port, files.ca).startswith(line)
        assert "does not encrypt, so it asks for no passphrase, is an older version, or" in said(port, passphrase="x")
    for demand in ("", files.ca):
        with grpc_server(loose_credentials(files.server, demand)) as port:
            assert said(port).startswith(f"the server at 127.0.0.1:{port} encrypts, so it demands a passphrase: give")
            assert "an authority signed its certificate, that authority with --tls-ca" in said(port)
            assert isinstance(diagnose("127.0.0.1", port, Access(), b""), NeedsPassphrase)
            plain = diagnose("127.0.0.1", port, Access("x", insecure=True), b"")
            assert "encrypts: leave out --insecure" in str(plain)
    with bare_server(ssl_answer(files.server, files.ca, newest=ssl.TLSVersion.TLSv1_2)) as port:
        assert "encrypts, so it demands a passphrase" in said(port)


def test_the_servers_certificate(files: Files) -> None:
    with grpc_server(loose_credentials(files.server)) as port:
        line = said(port, files.stranger_ca)
        assert line.startswith(
            f"the certificate of the server at 127.0.0.1:{port} was not signed by --tls-ca {files.stranger_ca}"
        )
    with grpc_server(loose_credentials(files.elsewhere)) as port:
        for host in ("127.0.0.1", "localhost"):
            assert f"is for b.example, 10.0.0.7, not for {host}: use one" in said(port, files.ca, host=host)
    with grpc_server(loose_credentials(files.old_server)) as port:
        line = said(port, files.ca)
        assert re.search(r"expired on \d{4}-\d\d-\d\d, and this machine's clock says 2.*: it needs a new one", line)
    with grpc_server(loose_credentials(files.future_server)) as port:
        assert re.search(r"is valid from \d{4}.* UTC only, and this machine's clock says 2", said(port, files.ca))
    with grpc_server(loose_credentials(files.client)) as port:
        assert "is not good for a server: " in said(port, files.ca)


def test_a_pinned_certificate_and_the_clock(files: Files) -> None:
    """Without an authority nothing but the dates of a certificate from files can be wrong, or the clock."""
    for cert in (files.old_server, files.future_server):
        with grpc_server(loose_credentials(cert)) as port:
            line = said(port, passphrase="x")
        assert re.search(r"valid from \d{4}.* to \d{4}.* UTC only, and this machine's clock says .*: set the c", line)
    with grpc_server(loose_credentials(files.server)) as port:
        assert said(port, passphrase="x") == ""
        shown = fetch_certificate("127.0.0.1", port, Access("x"), 10.0)
        assert shown == der(x509.load_pem_x509_certificates(Path(files.server).read_bytes())[0])


def test_the_clients_certificate(files: Files) -> None:
    """gRPC's server closes without an alert; others send one, at the first read (TLS 1.3) or in the handshake (1.2)."""
    servers = [
        lambda: grpc_server(loose_credentials(files.server, files.ca)),
        lambda: bare_server(ssl_answer(files.server, files.ca)),
        lambda: bare_server(ssl_answer(files.server, files.ca, newest=ssl.TLSVersion.TLSv1_2)),
    ]
    for server in servers:
        with server() as port:
            assert "demands a client's certificate: ask for one and give --tls-cert" in said(port, files.ca)
        for cert in (files.stranger, files.old_client):
            with server() as port:
                assert f"does not accept --tls-cert {cert}: it must be signed by" in said(port, files.ca, cert)


@pytest.mark.parametrize("protocols", [(), ("http/1.1",)])
def test_a_server_of_another_kind(files: Files, protocols: tuple[str, ...]) -> None:
    with bare_server(ssl_answer(files.server, protocols=protocols)) as port:
        assert "does not speak gRPC: is it the right port?" in said(port, files.ca)
    with bare_server(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        assert "does not encrypt" in said(port, files.ca)


@pytest.mark.parametrize(
    ("alert", "named"),
    [(120, "does not speak gRPC: is it the right port?"), (70, "refuses to encrypt with this client: tlsv1 alert ")],
)
def test_a_server_that_answers_with_an_alert(files: Files, alert: int, named: str) -> None:
    """No such application protocol, and no such version of TLS; either is TLS."""

    def refuse(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(bytes([21, 3, 3, 0, 2, 2, alert]))

    with bare_server(refuse) as port:
        assert named in said(port, files.ca)
        assert "encrypts, so it demands a passphrase" in said(port)


def test_files_that_cannot_be_used(files: Files) -> None:
    assert said(1, f"{files.folder}/nothing.pem").startswith(
        "the files of --tls-ca, --tls-cert and --tls-key cannot be"
    )


@pytest.mark.parametrize("tls", [True, False])
def test_nobody_there_is_a_matter_of_waiting(files: Files, tls: bool) -> None:
    ca = files.ca if tls else ""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for host in ("127.0.0.1", "no-such-host.invalid", "", "a" * 300, "ü" * 70):
        assert said(port, ca, host=host, timeout=3) == "", host
    started = time.monotonic()
    assert said(port, ca, host="a" * 300, timeout=20) == ""  # no name at all is found out at once
    assert time.monotonic() - started < 10
    with bare_server(lambda connection: None) as port:  # closes at once
        assert said(port, ca) == ""


@pytest.mark.parametrize("tls", [True, False])
def test_a_server_that_never_answers(files: Files, tls: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        assert said(silent.getsockname()[1], files.ca if tls else "", timeout=0.5) == ""
        assert 0.4 < time.monotonic() - started < 10


def test_an_address_that_swallows_what_is_sent_leaves_time_for_the_next(files: Files, monkeypatch) -> None:
    """As a name's IPv6 address where IPv6 leads nowhere."""
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):  # more than it lets wait: to the next one it does not answer
            other = waiting.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        look_up = socket.getaddrinfo

        def two_addresses(host: str, port: int, *rest: int, **named: int) -> list:
            there = look_up("127.0.0.1", port, *rest, **named)
            if host != "two.example":
                return there
            return [(*there[0][:4], full.getsockname()), *there]

        monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
        with grpc_server(loose_credentials(files.server)) as port:
            assert fetch_certificate("two.example", port, Access("x"), 3.0)


def test_a_name_that_is_looked_up_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    found = threading.Event()

    def look_up(*_: object, **__: object) -> list:
        found.wait(20)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    started = time.monotonic()
    assert said(9080, host="slow.example", timeout=0.3) == ""
    assert time.monotonic() - started < 10
    found.set()
