"""TLS on the real grid: who has the right authority joins, who has not is told why in one line, nobody else reads."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import ROOT, Starter, until
from proxy import DOWN, UP, Proxy
from tls_servers import Files, key_of

from fedkeras.errors import UserError
from fedkeras.runtime import tls_files
from fedkeras.runtime.grpc_grid import GrpcGrid
from fedkeras.runtime.passphrase import Access


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def encrypted(files: Files) -> Iterator[GrpcGrid]:
    access = Access("a passphrase", tls_cert=files.server, tls_key=key_of(files.server))
    with GrpcGrid("127.0.0.1", 0, 2, {}, access=access, reconnect_grace=0) as grid:
        yield grid


def test_nothing_can_be_read_on_the_way(encrypted, files, start: Starter, question, monkeypatch) -> None:
    monkeypatch.setenv("FEDKERAS_PASSPHRASE", "a passphrase")
    with Proxy(encrypted.address, record=True) as proxy:
        client = start.toy(proxy.address, 0, "--tls-ca", files.ca)
        until(lambda: encrypted.cids(), "the client")
        (reply,) = encrypted.send_and_receive([question(0, text="plainly-legible")], timeout=60)
        assert reply.content["config"]["text"] == "plainly-legible"
        assert all(b"plainly-legible" not in proxy.recorded[direction] for direction in (UP, DOWN))
        assert all(len(proxy.recorded[direction]) > 200 for direction in (UP, DOWN))
        encrypted.stop()
        assert client.ended() == 0


def test_who_has_the_wrong_authority_or_passphrase_is_told_so(encrypted, files, start, monkeypatch) -> None:
    monkeypatch.setenv("FEDKERAS_PASSPHRASE", "a passphrase")
    other = start.folder / "other"
    other.write_text("another passphrase")
    other.chmod(0o600)
    strangers = start.toy(encrypted.address, 0, "--tls-ca", files.stranger_ca)
    wrong = start.toy(encrypted.address, 1, "--passphrase-file", other)
    assert (strangers.ended(), wrong.ended()) == (2, 2)
    for process, reason in ((strangers, "was not signed by"), (wrong, "the passphrase is wrong")):
        (line,) = process.err.splitlines()
        assert reason in line
    assert not encrypted.cids()


def test_a_server_whose_certificate_has_expired(files, start: Starter, monkeypatch) -> None:
    """It does not start; and were it running all the same, no client would take it."""
    access = Access(tls_cert=files.old_server, tls_key=key_of(files.old_server))
    with pytest.raises(UserError, match="expired"):
        GrpcGrid("127.0.0.1", 0, 1, {}, access=access)
    monkeypatch.setattr(tls_files, "_check_dates", lambda *_: None)
    with GrpcGrid("127.0.0.1", 0, 1, {}, access=access) as grid:
        client = start.toy(grid.address, 0, "--tls-ca", files.ca)
        assert client.ended() == 2
        (line,) = client.err.splitlines()
        assert "expired" in line


def test_beyond_loopback_only_with_a_passphrase_or_aloud(files: Files, caplog) -> None:
    with pytest.raises(UserError, match=r"--host is 0\.0\.0\.0, which others can reach"):
        GrpcGrid("0.0.0.0", 0, 1, {})
    GrpcGrid("0.0.0.0", 0, 1, {}, access=Access("a passphrase"))
    assert not caplog.messages
    GrpcGrid("0.0.0.0", 0, 1, {}, access=Access(insecure=True))
    assert "anybody may join" in caplog.text


@pytest.mark.slow
def test_certs_server_and_spawned_clients(start: Starter) -> None:
    """`certs`, then a whole run that is open to the network, encrypted and guarded; its clients are spawned."""
    made = start.python(Path("-m"), "fedkeras", "certs", "certs")
    assert made.ended() == 0, made.err
    secret = start.folder / "passphrase"
    secret.write_text("a long passphrase\n")
    secret.chmod(0o600)
    flags = "--host 0.0.0.0 --spawn 2 --num-server-rounds 1 --tls-cert certs/server.pem --tls-key certs/server-key.pem"
    server = start.python(ROOT / "server.py", "--port", 0, *flags.split(), "--passphrase-file", secret)
    assert server.ended() == 0, server.err
    assert "3/3" in server.out
    assert server.complaints == []
