"""`python -m fedkeras certs`: files, their modes, what is said, and what is refused."""

import os
import re
import shutil
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from fedkeras.commands import certs, certs_folder
from fedkeras.runtime.certificates import cids_in, fingerprint, names_in, new_authority
from fedkeras.runtime.client_channel import ClientChannel
from fedkeras.runtime.passphrase import Access
from fedkeras.runtime.tls import server_channel

HERE_ONLY = ["localhost", "127.0.0.1", "::1"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture, tmp_path: Path):
    """Runs the command on the folder `pki`; returns what it printed."""

    def ran(*flags: object) -> str:
        assert certs.main([str(tmp_path / "pki"), *map(str, flags)]) == 0, capsys.readouterr().err
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out

    return ran


@pytest.fixture
def refused(capsys: pytest.CaptureFixture, tmp_path: Path):
    """Runs the command, which must refuse and leave the folder as it was; returns its line."""

    def ran(*flags: object, folder: Path = tmp_path / "pki") -> str:
        before = contents(folder)
        assert certs.main([str(folder), *map(str, flags)]) == 2
        printed = capsys.readouterr()
        assert (printed.out, contents(folder)) == ("", before)
        (line,) = printed.err.splitlines()
        assert line.startswith("python -m fedkeras certs: ")
        return line

    return ran


def contents(folder: Path) -> dict[str, bytes] | None:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else None


def certificates(path: Path) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(path.read_bytes())


def names(path: Path) -> set[str]:
    return set(names_in(certificates(path)[0]))


def test_the_whole_command(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "fedkeras",
        "certs",
        "my pki",
        "--host",
        "a.example",
        "192.168.1.5",
        "--days",
        "30",
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    folder = tmp_path / "my pki"
    assert set(contents(folder)) == {"ca.pem", "ca-key.pem", "server.pem", "server-key.pem"}
    server, authority = certificates(folder / "server.pem")
    assert [authority] == certificates(folder / "ca.pem")
    assert set(names_in(server)) == {"a.example", "192.168.1.5", *HERE_ONLY}
    until = f"{server.not_valid_after_utc:%Y-%m-%d}"
    assert abs(server.not_valid_after_utc - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=5)
    assert re.search(rf"my pki/server\.pem for a\.example, .*192\.168\.1\.5.*, valid until {until}\n", ended.stdout)
    assert f"my pki/ca.pem, valid until {authority.not_valid_after_utc:%Y-%m-%d}\n" in ended.stdout
    assert f"(SHA-256): {fingerprint(authority)}\n" in ended.stdout
    assert (
        "once:    python -m fedkeras passphrase passphrase\n"
        "server:  python server.py --host 0.0.0.0 --tls-cert 'my pki/server.pem' --tls-key 'my pki/server-key.pem' "
        "--passphrase-file passphrase\n"
        "clients: python client.py --cid N --server a.example:9080 --tls-ca ca.pem --passphrase-file passphrase\n"
        in ended.stdout
    )
    assert "Give clients ca.pem. All *-key.pem stay secret" in ended.stdout


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_keys_are_never_open_to_others(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even while they are written, whatever the umask."""
    seen = {}

    def fsync(descriptor: int) -> None:
        seen[str(Path(f"/proc/self/fd/{descriptor}").readlink())] = stat.S_IMODE(os.fstat(descriptor).st_mode)

    if Path("/proc/self/fd").exists():
        monkeypatch.setattr(certs_folder.os, "fsync", fsync)
    before = os.umask(0)
    try:
        run("--client", "anna")
        run("--client", "anna", "--host", "b.example", "--force")
    finally:
        os.umask(before)
    assert {mode for name, mode in seen.items() if "-key" in name} <= {0o600}
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "pki").iterdir()}
    assert modes == {
        "ca.pem": 0o644, "ca-key.pem": 0o600, "server.pem": 0o644, "server-key.pem": 0o600,
        "client-anna.pem": 0o644, "client-anna-key.pem": 0o600,
    }  # fmt: skip


def test_what_is_made_is_what_the_runtime_takes(run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    said = run("--client", "anna", "bob@b.example")
    folder = tmp_path / "pki"
    ca = str(folder / "ca.pem")
    own = Access(tls_cert=str(folder / "server.pem"), tls_key=str(folder / "server-key.pem"), tls_ca=ca)
    assert server_channel("127.0.0.1", own).credentials is not None
    for name in ("anna", "bob@b.example"):
        key = str(folder / f"client-{name}-key.pem")
        access = Access(tls_cert=str(folder / f"client-{name}.pem"), tls_key=key, tls_ca=ca)
        assert ClientChannel("a.example:9080", access).encrypts
    assert not caplog.messages
    assert f"--tls-client-ca {ca}\n" in said
    assert "--tls-ca ca.pem --tls-cert client-anna.pem --tls-key client-anna-key.pem\n" in said
    assert "good on this machine only: --force --host NAME makes one for others" in said


@pytest.mark.parametrize(
    "flags", [["--host", "a.example", "b.example"], ["--host", "a.example", "--host", "b.example"],
              ["--host", "a.example,b.example"]],
)  # fmt: skip
def test_several_names(run, tmp_path: Path, flags: list[str]) -> None:
    run(*flags)
    assert names(tmp_path / "pki" / "server.pem") == {"a.example", "b.example", *HERE_ONLY}


def test_the_authority_signs_again(run, refused, tmp_path: Path) -> None:
    folder = tmp_path / "pki"
    run("--host", "a.example")
    first = contents(folder)
    assert "--client NAME for a client's, or --force to renew" in refused()
    assert "server.pem is there already; --force replaces it" in refused("--host", "b.example")
    assert "server.pem is there already" in refused("--host", "b.example", "--client", "anna")
    run("--client", "anna")
    assert "client-anna.pem is there already" in refused("--client", "anna")
    assert {name: data for name, data in contents(folder).items() if "anna" not in name} == first
    said = run("--force", "--days", 9)
    assert names(folder / "server.pem") == {"a.example", *HERE_ONLY}  # renewed under its names
    assert "signed by " in said
    run("--force", "--host", "b.example")
    assert names(folder / "server.pem") == {"b.example", *HERE_ONLY}
    after = contents(folder)
    assert (after["ca.pem"], after["ca-key.pem"]) == (first["ca.pem"], first["ca-key.pem"])
    assert after["server-key.pem"] != first["server-key.pem"]
    (authority,) = certificates(folder / "ca.pem")
    for name in ("server.pem", "client-anna.pem"):
        certificates(folder / name)[0].verify_directly_issued_by(authority)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--days", "0"], "--days must be at least 1 and at most 3650, not 0"),
        (["--days", "-5"], "--days"),
        (["--days", "99999999999999999999"], "--days must be"),
        (["--days", "soon"], "--days"),
        (["--host", "http://a.example"], "--host 'http://a.example' is neither a host name nor an address"),
        (["--host", "a.example:9080"], "without scheme and port"),
        (["--host", "0.0.0.0"], "--host 0.0.0.0 means all addresses"),
        (["--host"], "--host needs a name"),
        (["--host", "a.example,"], "--host needs a name"),
        (["--client"], "--client needs a name"),
        (["--client", "../anna"], "--client '../anna' is no name for a file"),
        (["--client", "anna-key"], "--client 'anna-key'"),
        (["--client", "a" * 61], "at most 60"),
        (["--client", ".anna"], "--client '.anna'"),
        (["--ca", "x"], "--ca"),
    ],
)
def test_bad_flags(refused, tmp_path: Path, flags: list[str], named: str) -> None:
    assert named in refused(*flags)
    assert not (tmp_path / "pki").exists()


def test_folders_that_are_none(refused, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    assert f"{file} is a file; DIR must be a folder" in refused(folder=file)
    assert f"cannot write {file / 'pki'}: Not a directory" in refused(folder=file / "pki")
    assert file.read_text() == "x"
    (tmp_path / "taken" / "server-key.pem").mkdir(parents=True)
    assert certs.main([str(tmp_path / "taken"), "--force"]) == 2


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(refused, tmp_path: Path) -> None:
    (tmp_path / "pki").mkdir(mode=0o500)
    assert "Permission denied" in refused()


def test_an_authority_that_cannot_sign(run, refused, tmp_path: Path) -> None:
    run()
    folder = tmp_path / "pki"
    good = contents(folder)

    def says(line: str, **changed: bytes | None) -> None:
        for name, data in {"ca": good["ca.pem"], "ca_key": good["ca-key.pem"], **changed}.items():
            path = folder / f"{name.replace('_', '-')}.pem"
            path.unlink(missing_ok=True) if data is None else path.write_bytes(data)
        assert line in refused("--client", "anna")

    says("has ca.pem but not ca-key.pem: sign where both are, or take another folder", ca_key=None)
    says("has ca-key.pem but not ca.pem", ca=None)
    says("ca-key.pem is not the key of ", ca_key=good["server-key.pem"])
    says("ca-key.pem holds no key", ca_key=b"rubbish")
    says("ca.pem holds no certificate", ca=b"rubbish")
    old = new_authority(datetime.now(UTC) - timedelta(days=20), days=10)
    says("expired on", ca=old.certificate_pem(), ca_key=old.key_pem())


def test_a_stray_key_is_not_overwritten(run, refused, tmp_path: Path) -> None:
    folder = tmp_path / "pki"
    run()
    (folder / "server.pem").unlink()
    (folder / "client-anna-key.pem").write_text("precious")
    assert "server-key.pem is there already" in refused()
    assert "is there already" in refused("--client", "anna")


def test_what_a_killed_command_left_behind_does_no_harm(run, tmp_path: Path) -> None:
    folder = tmp_path / "pki"
    folder.mkdir()
    (folder / ".ca-key.pem.tmp").write_text("torn")
    run()
    assert not list(folder.glob(".*"))


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl command")
def test_openssl_agrees(run, tmp_path: Path) -> None:
    folder = tmp_path / "pki"
    said = run("--host", "a.example", "--client", "anna")

    def openssl(*args: object) -> str:
        command = ["openssl", *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout

    for cert, purpose in (("server", "sslserver"), ("client-anna", "sslclient")):
        openssl("verify", "-x509_strict", "-CAfile", "ca.pem", "-purpose", purpose, f"{cert}.pem")
    openssl("verify", "-CAfile", "ca.pem", "-verify_hostname", "a.example", "-verify_ip", "127.0.0.1", "server.pem")
    printed = openssl("x509", "-in", "ca.pem", "-noout", "-fingerprint", "-sha256")
    assert printed.strip().split("=")[1] in said
    assert "ASN1 OID: prime256v1" in openssl("pkey", "-in", "server-key.pem", "-noout", "-text")


def test_a_clients_certificate_says_which_clients_it_is_for(run, refused, tmp_path: Path) -> None:
    """The line to type has them; two names cannot share them."""
    said = run("--client", "anna", "--cid", "0-3,7")
    assert "client-anna.pem for client 0-3,7, valid until" in said
    assert "--cid 0-3,7 --server" in said
    made = x509.load_pem_x509_certificate((tmp_path / "pki" / "client-anna.pem").read_bytes())
    assert cids_in(made) == {0, 1, 2, 3, 7}
    one = "--cid says which clients one --client NAME may be: give one name"
    assert one in refused("--client", "a,b", "--cid", "0")
    assert one in refused("--cid", "0")
    assert "--cid is '3-1'; give a number like 3" in refused("--client", "a", "--cid", "3-1")
