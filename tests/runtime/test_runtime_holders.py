"""Who is who: a client id belongs to whom a certificate names, else to whoever joined under it first, for the run."""

import dataclasses
import hashlib
import hmac
import os
import re
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import until

from fedkeras.atomic import replace_file
from fedkeras.cids import cids_text, parse_cids
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.reports import RunFolder, checkpoints, resuming
from fedkeras.runtime import certificates, holder_key
from fedkeras.runtime.client_channel import ClientChannel
from fedkeras.runtime.federation_pb2 import Join
from fedkeras.runtime.grpc_grid import GrpcGrid
from fedkeras.runtime.holders import Holders, Identity, identity_of
from fedkeras.runtime.passphrase import Access
from fedkeras.runtime.server_connection import JoinRefused, ServerConnection
from fedkeras.runtime.tls_probe import Unreachable
from fedkeras.workflows.base import workflow_of
from fedkeras.workflows.flag_checks import check_flags

ANNA, BERT = b"a" * 32, b"b" * 32
"""Keys in two clients' folders."""


@pytest.fixture
def grid() -> Iterator[GrpcGrid]:
    with GrpcGrid("127.0.0.1", 0, 4, {}, reconnect_grace=0) as listening:
        yield listening


def join(grid: GrpcGrid, key: bytes, *cids: int, access: Access = Access(), **more: bool) -> ServerConnection:  # noqa: B008
    """Log in with a key, and no more."""
    own = Join(cids=cids, **more)
    return ServerConnection(grid.address, ClientChannel(grid.address, access), access.passphrase, own, key)


def test_the_first_holder_keeps_it_also_while_it_is_away(grid: GrpcGrid) -> None:
    """Another client is told so, with --replace too; the same one comes back, and may replace itself."""
    first = join(grid, ANNA, 3)
    for replace in (False, True):
        with pytest.raises(JoinRefused, match=r"--cid 3 is held by another client, which joined first: .*--release 3"):
            join(grid, BERT, 3, replace=replace)
    with pytest.raises(JoinRefused, match="--cid 3 is already connected"):
        join(grid, ANNA, 3)
    second = join(grid, ANNA, 3, replace=True)
    first.close()
    second.close()
    until(lambda: not grid.cids(), "its end")
    with pytest.raises(JoinRefused, match="is held by another client"):
        join(grid, BERT, 3)
    with pytest.raises(JoinRefused, match="is held by another client"):
        join(grid, BERT, 2, 3)
    join(grid, ANNA, 3).close()
    join(grid, BERT, 2).close()


def test_nobody_joins_anothers_pool(grid: GrpcGrid) -> None:
    """Processes with the same key are of one pool, wherever they run; others with the same flags are not."""
    members = [join(grid, ANNA, 0, 1, shared=True) for _ in range(2)]
    with pytest.raises(JoinRefused, match="--cid 0 is held by another client"):
        join(grid, BERT, 0, 1, shared=True)
    for member in members:
        member.close()


def test_a_client_that_takes_any_partition_gets_the_one_it_had(grid: GrpcGrid) -> None:
    """Those that somebody holds who is away are kept for that one."""
    for connection in (join(grid, ANNA, 1), join(grid, BERT)):
        connection.close()
    until(lambda: not grid.cids(), "their end")
    others = [join(grid, key) for key in (ANNA, b"c" * 32, b"d" * 32)]
    assert [list(other.welcome.cids) for other in others] == [[1], [2], [3]]
    with pytest.raises(Unreachable, match="all 4 partitions have a client already, 1 of them one that is away"):
        join(grid, b"e" * 32)
    for other in others:
        other.close()


def test_a_server_that_was_resumed_knows_its_clients(grid: GrpcGrid, tmp_path: Path) -> None:
    """By what the checkpoint says, in which there is no secret; --release gives one free."""
    join(grid, ANNA, 0).close()
    join(grid, BERT, 2).close()
    table = grid.holders()
    secret = hmac.digest(ANNA, b"fedkeras holder\0" + bytes.fromhex(table["run"]), "sha256")
    assert table["cids"]["0"] == hashlib.sha256(secret).hexdigest()
    folder = RunFolder(tmp_path)
    folder.checkpoints_path.mkdir()
    for number in (1, 2):
        saved = checkpoints.Checkpoint(number, {}, holders=table if number == 2 else {})
        checkpoints.write(checkpoints.path_of(folder, number), saved)
    assert checkpoints.newest_checkpoint(folder).holders == table
    config = Config(resume=str(tmp_path))
    holders = Holders.from_table(resuming.holders(config))
    assert holders.release([0, 3]) == [3], "those that nobody held"
    with GrpcGrid("127.0.0.1", 0, 4, {}, reconnect_grace=0, holders=holders) as resumed:
        join(resumed, BERT, 2).close()
        with pytest.raises(JoinRefused, match="--cid 2 is held by another client"):
            join(resumed, ANNA, 2, replace=True)
        join(resumed, BERT, 0).close()
        with pytest.raises(JoinRefused, match="--cid 0 is held by another client"):
            join(resumed, ANNA, 0)
        assert resumed.holders()["run"] == table["run"]


def test_a_new_run_knows_nobody_and_learns_another_secret() -> None:
    assert resuming.holders(Config()) == {}
    first, second = (Holders.from_table({}) for _ in range(2))
    assert first.run != second.run
    assert holder_key.secret_for(ANNA, first.run) != holder_key.secret_for(ANNA, second.run)


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    folder, table = RunFolder(tmp_path), {"run": "00" * 16, "cids": {"1": "x"}}
    folder.checkpoints_path.mkdir()
    checkpoints.write(checkpoints.path_of(folder, 1), checkpoints.Checkpoint(1, {}, holders=table))
    replace_file(checkpoints.path_of(folder, 2), [b"fedkeras checkpoint 1\n", b"cut of"])
    assert checkpoints.newest_holders(folder) == table


def test_the_servers_own_clients_may_be_anybody_and_then_nobody_else_is() -> None:
    """A server that was resumed starts new ones with another key."""
    own, stranger = b"s" * 32, Identity(b"a secret")
    holders = Holders(own_key=own)
    spawned = Identity(holder_key.secret_for(own, holders.run))
    holders.claim(Identity(b"another"), [1])
    assert not holders.refusal(spawned, range(3))
    holders.claim(spawned, range(3))
    assert holders.refusal(stranger, [2])
    again = Holders.from_table(holders.to_table(), own_key=b"t" * 32)
    newer = Identity(holder_key.secret_for(b"t" * 32, again.run))
    assert not again.refusal(newer, range(3))
    again.claim(newer, range(3))
    assert again.refusal(spawned, [1])


def test_a_client_that_shows_nothing_holds_nothing() -> None:
    holders = Holders()
    holders.claim(Identity(), [0])
    assert holders.to_table()["cids"] == {}
    holders.claim(Identity(b"secret"), [0])
    assert "is held by another" in holders.refusal(Identity(), [0])
    assert holders.refusal(Identity(bytes(65)), [1]) == "its secret is too long"


def test_what_a_certificate_says_is_more_than_a_secret() -> None:
    """It takes a cid from whoever has only a secret, and nobody takes it from it but the same name."""
    anna, bert = Identity(b"x", "anna", frozenset({0, 1, 2, 3})), Identity(b"x", "bert", frozenset({3, 4}))
    holders = Holders()
    holders.claim(Identity(b"y"), [0])
    assert not holders.refusal(anna, [0, 3])
    holders.claim(anna, [0, 3])
    assert holders.refusal(anna, [4]) == "its certificate (anna) is for client 0-3, not for 4"
    assert "held by the client of certificate anna: " in holders.refusal(bert, [3])
    assert holders.refusal(Identity(b"y"), [0])
    assert not holders.refusal(dataclasses.replace(anna, secret=b"of another folder"), [0])
    assert holders.may_have(bert, 5) == [4]
    assert holders.may_have(anna, 5) == [0, 3, 1, 2]


def test_a_certificate_names_its_cids(tmp_path: Path) -> None:
    authority = certificates.new_authority()
    named = certificates.new_client(authority, "anna", cids=parse_cids("0-3,7"))
    assert certificates.cids_in(named.certificate) == {0, 1, 2, 3, 7}
    assert certificates.cids_in(certificates.new_client(authority, "old").certificate) is None
    assert certificates.cids_in(certificates.new_server(authority, ["a.example"]).certificate) is None
    identity = identity_of(b"s", {"x509_pem_cert": [named.certificate_pem()]})
    assert identity == Identity(b"s", "anna", frozenset({0, 1, 2, 3, 7}))
    assert identity_of(b"s", {}) == Identity(b"s")


@pytest.mark.parametrize("text", ["", "x", "3-1", "-1", "1-", "0-9999999", "1--2", "1.5"])
def test_a_name_that_is_no_list_of_cids_is_for_nobody(text: str, monkeypatch) -> None:
    """And as --cid or --release it is refused."""
    with pytest.raises(ValueError):
        parse_cids(text)
    monkeypatch.setattr(certificates, "cids_text", lambda cids: text)
    odd = certificates.new_client(certificates.new_authority(), "odd", cids=[1])
    assert certificates.cids_in(odd.certificate) == frozenset()
    assert holders_refuse_everything(Identity(b"s", "odd", frozenset()))
    if text:
        with pytest.raises(UserError, match=f"--release is '{re.escape(text)}'; give a number"):
            Config(release=text).released()


def holders_refuse_everything(identity: Identity) -> bool:
    return all(Holders().refusal(identity, [cid]) for cid in range(3))


def test_cids_read_as_they_are_written() -> None:
    for text in ("3", "0-9", "0,2,5", "0-3,7", "1-2"):
        assert cids_text(parse_cids(text)) in (text, text.replace("1-2", "1-2"))


def test_over_tls_the_server_refuses_anothers_cid(tmp_path: Path) -> None:
    """The certificate is what gRPC has checked: its holder is anna from any folder, and nobody but anna."""
    authority = certificates.new_authority()
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem())
    own = files_of(tmp_path, "server", certificates.new_server(authority, []))
    anna, bert, old = (
        files_of(tmp_path, name, certificates.new_client(authority, name, cids=cids))
        for name, cids in (("anna", [0, 1]), ("bert", [2]), ("old", []))
    )
    with GrpcGrid("127.0.0.1", 0, 4, {}, reconnect_grace=0, access=own) as grid:
        join(grid, ANNA, 1, access=anna).close()
        with pytest.raises(JoinRefused, match=r"its certificate \(bert\) is for client 2, not for 1"):
            join(grid, ANNA, 1, access=bert, replace=True)
        with pytest.raises(JoinRefused, match="--cid 1 is held by the client of certificate anna"):
            join(grid, ANNA, 1, access=old, replace=True)
        join(grid, BERT, 1, access=anna, replace=True).close()  # from another folder
        free = join(grid, BERT, access=bert)
        assert list(free.welcome.cids) == [2]
        join(grid, BERT, 3, access=old).close()  # a certificate that names no cid: any that nobody else holds
        with pytest.raises(JoinRefused, match="--cid 3 is held by another client"):
            join(grid, ANNA, 3, access=old, replace=True)
        free.close()


def files_of(folder: Path, name: str, own: certificates.Signed) -> Access:
    """A certificate, its key and its authority in files, as either side is given them."""
    paths = [folder / f"{name}{end}" for end in (".pem", "-key.pem")]
    for path, content in zip(paths, (own.certificate_pem(), own.key_pem()), strict=True):
        path.write_bytes(content)
        path.chmod(0o600)
    return Access(tls_cert=str(paths[0]), tls_key=str(paths[1]), tls_ca=str(folder / "ca.pem"))


def test_the_key_is_made_once_and_is_its_owners_alone(tmp_path: Path, monkeypatch) -> None:
    """Also by processes that are started together; another folder has another one; a variable goes before both."""
    monkeypatch.delenv(holder_key.VARIABLE, raising=False)
    keys: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: keys.append(holder_key.read_key("", tmp_path / "cache"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(keys)) == 1
    assert len(keys) == 8
    assert len(keys[0]) == 32
    path = tmp_path / "cache" / "holder.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert holder_key.read_key("", tmp_path / "other") != keys[0]
    assert holder_key.read_key(str(path), tmp_path / "other") == keys[0]
    monkeypatch.setenv(holder_key.VARIABLE, "12" * 32)
    assert holder_key.read_key(str(path), tmp_path) == b"\x12" * 32


def test_files_that_are_no_key(tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.delenv(holder_key.VARIABLE, raising=False)
    monkeypatch.setattr(holder_key, "WHOLE_SECONDS", 0.0)
    path = tmp_path / "key"
    for content in (b"", b"zz" * 32, b"12" * 31, b"12" * 33, b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is no holder key: it has 64 hexadecimal digits"):
            holder_key.read_key(str(path), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot (read|write) --holder-key"):
        holder_key.read_key(str(tmp_path / "file" / "key"), tmp_path)
    assert len(holder_key.read_key("", tmp_path / "file")) == 32  # the folder is a file
    assert "if this client is started again, the server takes it for another one" in caplog.text
    path.write_text("12" * 32)
    path.chmod(0o644)
    if os.name == "posix":
        holder_key.read_key(str(path), tmp_path)
        assert "others on this machine can read" in caplog.text


def test_release_is_for_a_run_that_goes_on() -> None:
    config = Config(release="3")
    with pytest.raises(UserError, match="--release gives a client id of a run free that goes on: --resume RUN"):
        check_flags(workflow_of(config), config)
    resumed = dataclasses.replace(config, resume="a run")
    check_flags(workflow_of(resumed), resumed)
    assert Config(release="0-2,5").released() == [0, 1, 2, 5]
