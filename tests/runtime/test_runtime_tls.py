"""Certificates that gRPC takes in both directions, files that are refused with a reason, and where plaintext is."""

import contextlib
import logging
import os
import re
import shutil
import socket
import ssl
import subprocess
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from tls_servers import Files, bare_server, grpc_server, key_of, loose_credentials, reach

from fedkeras.address import is_loopback
from fedkeras.errors import UserError
from fedkeras.runtime import client_channel
from fedkeras.runtime.certificates import (
    der,
    general_name,
    names_in,
    new_authority,
    new_client,
    new_self_signed,
    new_server,
)
from fedkeras.runtime.client_channel import ClientChannel
from fedkeras.runtime.passphrase import Access
from fedkeras.runtime.tls import server_channel


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("pem"))


def own(cert: str, ca: str = "") -> Access:
    return Access(tls_cert=cert, tls_key=key_of(cert), tls_ca=ca)


def server_credentials(access: Access) -> grpc.ServerCredentials | None:
    return server_channel("127.0.0.1", access).credentials


def client(access: Access) -> ClientChannel:
    return ClientChannel("a.example:9080", access)


def der_of(cert: str) -> bytes:
    return der(x509.load_pem_x509_certificate(Path(cert).read_bytes()))


def reach_blindly(port: int) -> None:
    """Begin gRPC's handshake there, whatever comes of it."""
    credentials = grpc.ssl_channel_credentials(new_self_signed().certificate_pem())
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials) as channel, contextlib.suppress(grpc.RpcError):
        channel.unary_unary("/any/method")(b"x", timeout=5)


def has_ipv6_loopback() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


# --- certificates


def test_what_stands_in_a_servers_certificate() -> None:
    authority = new_authority()
    server = new_server(authority, ["A.example.", "*.b.example", "192.168.1.5", "[2001:db8::1]", "localhost"], days=30)
    certificate = server.certificate
    server.certificate.verify_directly_issued_by(authority.certificate)
    assert names_in(certificate) == [
        "a.example", "*.b.example", "localhost", "192.168.1.5", "2001:db8::1", "127.0.0.1", "::1",
    ]  # fmt: skip
    extension = certificate.extensions.get_extension_for_class
    constraints = extension(x509.BasicConstraints)
    assert constraints.critical and not constraints.value.ca
    assert extension(x509.KeyUsage).critical and extension(x509.KeyUsage).value.digital_signature
    assert not extension(x509.KeyUsage).value.key_cert_sign
    assert list(extension(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    issuers = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert extension(x509.AuthorityKeyIdentifier).value.key_identifier == issuers.digest
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).total_seconds() == 30 * 86400 + 3600


def test_what_stands_in_an_authoritys_and_a_clients() -> None:
    authority = new_authority()
    extension = authority.certificate.extensions.get_extension_for_class
    constraints = extension(x509.BasicConstraints)
    assert constraints.critical and constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    assert extension(x509.KeyUsage).critical and extension(x509.KeyUsage).value.key_cert_sign
    assert authority.certificate.subject != new_authority().certificate.subject
    client = new_client(authority, "anna", days=99_999).certificate
    assert client.subject.rfc4514_string() == "CN=anna"
    usage = client.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert (list(usage), names_in(client)) == ([ExtendedKeyUsageOID.CLIENT_AUTH], [])
    assert client.not_valid_after_utc == authority.certificate.not_valid_after_utc  # never longer than its authority


@pytest.mark.parametrize(
    "host",
    ["", "http://a.example", "a.example:9080", "a b", "-a.example", "a..b", "256.1.1.1", "1.2.3", "ü.example", "a.*",
     "x" * 64, "a." * 127 + "ab", "0.0.0.0", "::", "fe80::1%eth0", "*"],
)  # fmt: skip
def test_what_is_no_name_for_a_server(host: str) -> None:
    with pytest.raises(UserError, match=f"--host '?{re.escape(host)}"):
        general_name(host)


def test_what_stands_in_a_certificate_that_a_server_makes_itself() -> None:
    """It is valid on every clock, for a server, and signs nothing."""
    certificate = new_self_signed().certificate
    certificate.verify_directly_issued_by(certificate)
    extension = certificate.extensions.get_extension_for_class
    assert not extension(x509.BasicConstraints).value.ca
    assert list(extension(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert isinstance(certificate.public_key().curve, ec.SECP256R1)
    assert (certificate.not_valid_before_utc.year, certificate.not_valid_after_utc.year) == (1950, 9999)
    assert der(certificate) != der(new_self_signed().certificate)


# --- gRPC with them


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_call_over_tls(files: Files, host: str) -> None:
    """The certificate is pinned, whoever signed it; with an authority it must have signed it, and for this name."""
    with grpc_server(server_credentials(own(files.server)), host) as port:
        assert reach(f"{host}:{port}", Access(tls_ca=files.ca)) == b"x!"
        assert reach(f"{host}:{port}", Access(passphrase="x")) == b"x!"
        assert reach(f"{host}:{port}", Access(tls_ca=files.stranger_ca)) is None
        assert reach(f"{host}:{port}", Access()) is None  # in plaintext
        assert ClientChannel(f"{host}:{port}", Access(tls_ca=files.ca)).open()[1] == der_of(files.server)
    with grpc_server(loose_credentials(files.elsewhere), host) as port:
        assert reach(f"{host}:{port}", Access(tls_ca=files.ca)) is None
        assert reach(f"{host}:{port}", Access(passphrase="x")) == b"x!"


@pytest.mark.skipif(not has_ipv6_loopback(), reason="this machine has no ::1")
def test_a_call_over_tls_and_ipv6(files: Files) -> None:
    with grpc_server(server_credentials(own(files.server)), "::1") as port:
        for access in (Access(tls_ca=files.ca), Access(passphrase="x")):
            assert reach(f"[::1]:{port}", access) == b"x!"


def test_a_server_without_files_makes_itself_a_certificate() -> None:
    """Another one each time; and a client that has seen one reaches no server with the other."""
    access = Access(passphrase="x")
    one, other = server_channel("127.0.0.1", access), server_channel("127.0.0.1", access)
    with grpc_server(one.credentials) as port:
        seen = ClientChannel(f"127.0.0.1:{port}", access)
        assert seen.open()[1] == one.certificate != other.certificate
    with grpc_server(other.credentials) as port, patch.object(client_channel, "fetch_certificate") as fetched:
        fetched.return_value = one.certificate
        assert reach(f"127.0.0.1:{port}", access) is None
        fetched.return_value = other.certificate
        assert reach(f"127.0.0.1:{port}", access) == b"x!"


@pytest.mark.parametrize("names", [["10.0.0.7"], ["2001:db8::1"], ["*.b.example"], []])
def test_a_pinned_certificate_may_have_any_name(names: list[str]) -> None:
    authority = new_authority()
    with patch("fedkeras.runtime.certificates.ALWAYS", ()):
        server = new_server(authority, names)
    pair = (server.key_pem(), server.certificate_pem() + authority.certificate_pem())
    with grpc_server(grpc.ssl_server_credentials([pair])) as port:
        assert reach(f"127.0.0.1:{port}", Access(passphrase="x")) == b"x!"


def test_a_servers_own_file_serves_clients_on_its_machine(files: Files) -> None:
    with grpc_server(server_credentials(own(files.server))) as port:
        assert reach(f"127.0.0.1:{port}", Access(tls_ca=files.server)) == b"x!"


def test_clients_certificates(files: Files) -> None:
    with grpc_server(server_credentials(own(files.server, files.ca))) as port:
        assert reach(f"127.0.0.1:{port}", own(files.client, files.ca)) == b"x!"
        assert reach(f"127.0.0.1:{port}", replace(own(files.client), passphrase="x")) == b"x!"
        assert reach(f"127.0.0.1:{port}", own(files.stranger, files.ca)) is None
        assert reach(f"127.0.0.1:{port}", Access(tls_ca=files.ca)) is None
        old = [Path(path).read_bytes() for path in (key_of(files.old_client), files.old_client)]
        with patch.object(client_channel, "read_own", lambda *_: old[::-1]):
            assert reach(f"127.0.0.1:{port}", own(files.client, files.ca)) is None
    with grpc_server(server_channel("0.0.0.0", Access(passphrase="x" * 12, tls_ca=files.ca)).credentials) as port:
        assert reach(f"127.0.0.1:{port}", replace(own(files.client), passphrase="x")) == b"x!"
        assert reach(f"127.0.0.1:{port}", Access(passphrase="x")) is None


def test_an_expired_server_is_not_believed(files: Files) -> None:
    with grpc_server(loose_credentials(files.old_server)) as port:
        assert reach(f"127.0.0.1:{port}", Access(tls_ca=files.ca)) is None


def test_both_ends_negotiate_tls_1_3_whose_keys_are_of_the_connection_alone() -> None:
    """So that nothing that leaks later, passphrase or certificate's key, opens what was recorded."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with grpc_server(server_channel("127.0.0.1", Access(passphrase="x")).credentials) as port:
        with socket.create_connection(("127.0.0.1", port), 20) as plain, context.wrap_socket(plain) as connection:
            assert connection.version() == "TLSv1.3"
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("kRSA")  # keys that the certificate's would open
        with socket.create_connection(("127.0.0.1", port), 20) as plain, pytest.raises(OSError):
            context.wrap_socket(plain)
    offered = []
    with bare_server(lambda connection: offered.append(connection.recv(4096))) as port:
        reach_blindly(port)
    # A client's hello ends its list of versions (extension 43) with those it takes: 1.3 is the first.
    assert b"\x00\x2b" in offered[0] and b"\x03\x04" in offered[0][offered[0].index(b"\x00\x2b") :][:12]


# --- files that are refused


def refusal(make, access: Access) -> str:
    with pytest.raises(UserError) as raised:
        make(access)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_what_belongs_together(files: Files) -> None:
    for make in (server_credentials, client):
        assert refusal(make, Access(tls_cert=files.server)).startswith("--tls-cert without --tls-key")
        assert refusal(make, Access(tls_key=files.server)).startswith("--tls-key without --tls-cert")
    assert refusal(server_credentials, Access(tls_ca=files.ca)).startswith("--tls-client-ca needs a server that")
    assert refusal(client, own(files.client)).startswith("--tls-cert without --tls-ca")


def test_certificates_that_a_server_refuses(files: Files) -> None:
    def said(cert: str, key: str = "", ca: str = "") -> str:
        return refusal(server_credentials, Access(tls_cert=cert, tls_key=key or key_of(cert), tls_ca=ca))

    nothing = f"{files.folder}/nothing.pem"
    assert said(nothing) == f"--tls-cert {nothing}: there is no such file; `python -m fedkeras certs` makes them"
    assert said(files.server, nothing).startswith(f"--tls-key {nothing}: there is no such file")
    assert said(files.server, ca=nothing).startswith(f"--tls-client-ca {nothing}: there is no such file")
    assert said(str(files.folder), nothing) == f"--tls-cert {files.folder} cannot be read: Is a directory"
    assert "belong to the certificate" in said(files.server, key_of(files.client))
    assert f"--tls-cert {files.ca} is an authority's certificate" in said(files.ca)
    assert "is not a certificate for a server: give a server's" in said(files.client)
    assert "is not a certificate for a client: give an authority's" in said(files.server, ca=files.elsewhere)
    assert f"--tls-cert {key_of(files.server)} is a private key; give a cert" in said(
        key_of(files.server), files.server
    )
    assert f"--tls-key {files.server} is a certificate; give the private key" in said(files.server, files.server)
    assert re.search(r"old-server\.pem expired on \d{4}-\d\d-\d\d, and this machine's clock s", said(files.old_server))
    assert re.search(r"--tls-client-ca \S+old-ca\.pem expired on ", said(files.server, ca=files.old_ca))
    assert re.search(r"future-server\.pem is valid from \d{4}.* UTC only, and this m", said(files.future_server))


def test_certificates_that_a_client_refuses(files: Files) -> None:
    assert "--tls-ca" in refusal(client, Access(tls_ca=f"{files.folder}/nothing.pem"))
    assert "is not a certificate for a server" in refusal(client, Access(tls_ca=files.client))
    assert "is a private key; give" in refusal(client, Access(tls_ca=key_of(files.ca)))
    assert "old-ca.pem expired on" in refusal(client, Access(tls_ca=files.old_ca))
    assert "old-client.pem expired on" in refusal(client, own(files.old_client, files.ca))
    assert "is not a certificate for a client" in refusal(client, own(files.elsewhere, files.ca))


def test_files_that_are_damaged(files: Files, tmp_path: Path) -> None:
    for number, content in enumerate((b"", b"hello", bytes(range(256)), Path(files.ca).read_bytes()[:300])):
        bad = tmp_path / f"{number}.pem"
        bad.write_bytes(content)
        assert f"--tls-ca {bad} " in refusal(client, Access(tls_ca=str(bad)))
        assert f"--tls-key {bad} " in refusal(server_credentials, Access(tls_cert=files.server, tls_key=str(bad)))
    bad.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert "holds a damaged certificate" in refusal(client, Access(tls_ca=str(bad)))
    bad.write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    locked = serialization.load_pem_private_key(Path(key_of(files.server)).read_bytes(), None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    assert "damaged or unknown key" in refusal(server_credentials, Access(tls_cert=files.server, tls_key=str(bad)))
    bad.write_bytes(locked)
    assert "is encrypted with a password" in refusal(
        server_credentials, Access(tls_cert=files.server, tls_key=str(bad))
    )


def test_one_valid_authority_among_old_ones_is_enough(files: Files, tmp_path: Path) -> None:
    several = tmp_path / "several.pem"
    several.write_bytes(Path(files.old_ca).read_bytes() + Path(files.ca).read_bytes())
    with grpc_server(server_credentials(own(files.server))) as port:
        assert reach(f"127.0.0.1:{port}", Access(tls_ca=str(several))) == b"x!"


def test_what_is_warned_of(files: Files, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with caplog.at_level(logging.WARNING, "fedkeras"):
        server_credentials(own(files.server, files.ca))
        assert not caplog.records
        server_credentials(own(files.soon))
        (said,) = caplog.messages
        assert re.search(r"soon\.pem expires on \d{4}-\d\d-\d\d", said)
        caplog.clear()
        if os.name == "posix":
            open_key = tmp_path / "key.pem"
            shutil.copyfile(key_of(files.server), open_key)
            open_key.chmod(0o640)
            server_credentials(Access(tls_cert=files.server, tls_key=str(open_key)))
            assert caplog.messages == [
                f"--tls-key {open_key} may be read by other users of this machine: chmod 600 {open_key}"
            ]


# --- where plaintext is refused


def test_what_is_loopback() -> None:
    for host in ("localhost", "LOCALHOST", "127.0.0.1", "127.8.9.1", "::1", "[::1]", "::ffff:127.0.0.1"):
        assert is_loopback(host), host
    for host in (
        "0.0.0.0",
        "::",
        "[::]",
        "192.168.1.5",
        "::ffff:10.0.0.1",
        "localhost.example",
        "",
        "127.1",
        "a.example",
    ):
        assert not is_loopback(host), host


LOCAL, OUTSIDE, SECRET = "127.0.0.1", "0.0.0.0", "a long passphrase"


@pytest.mark.parametrize(
    ("host", "access", "encrypted", "said"),
    [
        (LOCAL, Access(), False, "not encrypted, anybody on this machine may join"),
        (LOCAL, Access(SECRET), True, "encrypted, clients need the passphrase"),
        (LOCAL, Access(SECRET, insecure=True), False, "not encrypted, clients need the passphrase"),
        (LOCAL, Access(insecure=True), False, "not encrypted, anybody on this machine may join"),
        (OUTSIDE, Access(SECRET), True, "encrypted, clients need the passphrase"),
        (OUTSIDE, Access(SECRET, insecure=True), False, "NOT ENCRYPTED, clients need the passphrase"),
        (OUTSIDE, Access(insecure=True), False, "NOT ENCRYPTED, ANYBODY may join"),
    ],
)  # fmt: skip
def test_what_a_server_without_files_is_protected_by(host, access, encrypted, said, caplog) -> None:
    channel = server_channel(host, access)
    assert channel.protection == said
    assert (channel.credentials is not None, bool(channel.certificate)) == (encrypted, encrypted)
    warned = host == OUTSIDE and access.insecure
    assert (f"listening on {host} with --insecure: " in caplog.text) == warned
    assert ("others can read and change what is sent" in caplog.text) == warned
    assert ("anybody may join" in caplog.text) == (warned and access.passphrase is None)


def test_what_a_server_with_certificates_is_protected_by(files: Files, caplog) -> None:
    for access, needed in (
        (own(files.server, files.ca), "a certificate"),
        (replace(own(files.server, files.ca), passphrase=SECRET), "the passphrase and a certificate"),
        (replace(own(files.server), passphrase=SECRET), "the passphrase"),
        (Access(SECRET, tls_ca=files.ca), "the passphrase and a certificate"),
    ):
        channel = server_channel(OUTSIDE, access)
        assert channel.protection == f"encrypted, clients need {needed}"
        assert (channel.certificate == der_of(files.server)) == bool(access.tls_cert)
    assert not caplog.messages
    assert server_channel(LOCAL, own(files.server)).protection == "encrypted, anybody on this machine may join"
    channel = server_channel(OUTSIDE, replace(own(files.server), insecure=True))
    assert (channel.protection, channel.certificate) == ("encrypted, ANYBODY may join", der_of(files.server))
    assert "with --insecure: anybody may join" in caplog.text


def test_nobody_listens_to_the_network_without_knowing_who_joins(files: Files) -> None:
    """A server's own certificate shows who it is, not who its clients are."""
    for host in ("0.0.0.0", "::", "192.168.1.5", ""):
        for access in (Access(), own(files.server)):
            with pytest.raises(UserError, match=r"anybody could join: write.*fedkeras passphrase FILE.*--insecure"):
                server_channel(host, access)


@pytest.mark.parametrize(
    ("host", "access", "encrypted", "knows"),
    [
        ("localhost", Access(), False, True), ("localhost", Access(SECRET), True, True),
        ("localhost", Access(SECRET, insecure=True), False, True),
        ("a.example", Access(), True, False), ("a.example", Access(SECRET), True, False),
        ("a.example", Access(SECRET, insecure=True), False, True), ("a.example", Access(insecure=True), False, True),
        ("a.example", Access(insecure=True, tls_ca="ca"), True, True), ("a.example", Access(tls_ca="ca"), True, True),
        ("a.example", Access(SECRET, tls_ca="ca"), True, True),
    ],
)  # fmt: skip
def test_what_a_client_does(files: Files, host: str, access: Access, encrypted: bool, knows: bool, caplog) -> None:
    channel = ClientChannel(f"{host}:9080", replace(access, tls_ca=access.tls_ca and files.ca))
    assert (channel.encrypts, channel.knows_server) == (encrypted, knows)
    exposed = access.passphrase is not None and access.insecure and host == "a.example"
    assert ("without encryption (--insecure)" in caplog.text) == exposed
    assert SECRET not in caplog.text


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl command")
def test_openssl_agrees(files: Files) -> None:
    def verify(cert: str, purpose: str, ca: str) -> int:
        command = ["openssl", "verify", "-x509_strict", "-CAfile", ca, "-purpose", purpose, cert]
        return subprocess.run(command, capture_output=True, check=False).returncode

    assert verify(files.server, "sslserver", files.ca) == 0
    assert verify(files.client, "sslclient", files.ca) == 0
    assert verify(files.client, "sslserver", files.ca) != 0
    assert verify(files.server, "sslserver", files.stranger_ca) != 0
