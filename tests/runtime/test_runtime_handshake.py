"""The login: who knows the passphrase joins, who does not learns nothing, and nobody sits in between."""

import contextlib
import queue
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from importlib.metadata import version
from pathlib import Path

import grpc
import pytest
from processes import HERE, Starter, until
from proxy import DOWN, UP, Proxy
from pseudo_terminal import Terminal, all_ended

from fedkeras.errors import UserError
from fedkeras.runtime import admission, client_session, handshake, node, wire
from fedkeras.runtime.certificates import der, new_authority, new_self_signed
from fedkeras.runtime.client_channel import ClientChannel
from fedkeras.runtime.federation_pb2 import Challenge, Frame, Goodbye, Hello, Join, Proof, Welcome
from fedkeras.runtime.grpc_grid import GrpcGrid
from fedkeras.runtime.handshake import Login, password_of
from fedkeras.runtime.passphrase import VARIABLE, Access, read_passphrase
from fedkeras.runtime.spake2 import InvalidShare

SECRET = "correct horse battery staple"


@pytest.fixture
def guarded() -> Iterator[GrpcGrid]:
    with GrpcGrid("127.0.0.1", 0, 4, {}, access=Access(SECRET), reconnect_grace=0) as grid:
        yield grid


def secret_file(folder: Path, text: str, name: str = "passphrase") -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(0o600)
    return path


class Stranger:
    """Speaks frames over TLS, right or wrong."""

    def __init__(self, address: str) -> None:
        self._channel, self.certificate = ClientChannel(address, Access(SECRET)).open()
        self._outgoing: queue.SimpleQueue = queue.SimpleQueue()
        join = self._channel.stream_stream(wire.METHOD, wire.serialise, wire.parse)
        self._call = join(iter(self._outgoing.get, None), timeout=60)

    def say(self, **content: object) -> Frame:
        self._outgoing.put(Frame(**content))
        return next(self._call)

    def hello(self, share: bytes) -> Challenge:
        """The server's answer to a Hello with this share."""
        said = Hello(protocol=wire.PROTOCOL, version=version("fedkeras"), share=share)
        return self.say(hello=said).challenge

    def __enter__(self) -> "Stranger":
        return self

    def __exit__(self, *_: object) -> None:
        self._outgoing.put(None)
        self._channel.close()


def test_whoever_knows_the_passphrase_joins(guarded, start: Starter, tmp_path: Path, question) -> None:
    """With a line end in the file or without, from the file or from the environment; nothing can be read on the way."""
    with Proxy(guarded.address, record=True) as proxy:
        client = start.toy(proxy.address, 0, "--passphrase-file", secret_file(tmp_path, f"{SECRET}\n"))
        until(lambda: guarded.cids(), "the client")
        (reply,) = guarded.send_and_receive([question(0, text="plainly-legible")], timeout=60)
        assert reply.content["config"]["text"] == "plainly-legible"
        for direction in (UP, DOWN):
            assert len(proxy.recorded[direction]) > 200
            for secret in (SECRET, "plainly-legible", "num-partitions"):
                assert secret.encode() not in proxy.recorded[direction]
        guarded.stop()
        assert client.ended() == 0


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        ("correct horse battery staples", "the server refused this client: the passphrase is wrong"),
        (None, "demands a passphrase: give --passphrase-file or set FEDKERAS_PASSPHRASE"),
    ],
)
def test_whoever_does_not_is_refused_in_one_line(guarded, start, tmp_path, caplog, secret, reason: str) -> None:
    flags = ["--passphrase-file", secret_file(tmp_path, secret)] if secret else []
    client = start.toy(guarded.address, 0, *flags)
    assert client.ended() == 2
    (line,) = client.err.splitlines()
    assert reason in line
    assert not guarded.cids()
    if secret:
        assert "refused a client from ipv4:127.0.0.1" in caplog.text


def join(address: str, access: Access, max_wait: float = 5.0) -> str:
    """How a client that tries to join there is refused."""
    with pytest.raises(UserError) as said:
        node.serve(lambda message, context: message, address, [0], {}, max_wait, access=access)
    return str(said.value)


def test_a_client_with_a_passphrase_joins_no_server_without_one(grid: GrpcGrid) -> None:
    """Neither in plaintext nor with a certificate of nobody's."""
    assert "does not encrypt, so it asks for no passphrase, is an older" in join(grid.address, Access(SECRET))
    assert "asks for no passphrase, so it may be any" in join(grid.address, Access(SECRET, insecure=True))
    with false_server(lambda frames: iter([Frame(challenge=Challenge())])) as address:
        assert "asks for no passphrase, so it may be any" in join(address, Access(SECRET))


class false_server:
    """A server of another's, with a certificate of its own; `answer` makes its frames of the client's."""

    def __init__(self, answer: Callable[[Iterator[Frame]], Iterator[Frame]], encrypt: bool = True) -> None:
        self.streams = 0

        def join(requests: Iterator[Frame], _: object) -> Iterator[Frame]:
            self.streams += 1
            yield from answer(requests)

        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        service, method = wire.METHOD.strip("/").split("/")
        handler = grpc.stream_stream_rpc_method_handler(join, wire.parse, wire.serialise)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        own = new_self_signed()
        self.certificate = der(own.certificate)
        credentials = grpc.ssl_server_credentials([(own.key_pem(), own.certificate_pem())])
        add = self._server.add_secure_port if encrypt else self._server.add_insecure_port
        port = add("127.0.0.1:0", *([credentials] if encrypt else []))
        self.address = f"127.0.0.1:{port}"

    def __enter__(self) -> str:
        self._server.start()
        return self.address

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()


@pytest.mark.parametrize("proof", ["made up", "the client's own", "of a guess"])
def test_a_server_that_only_pretends_is_refused(proof: str) -> None:
    """And is not tried again: each login is a guess at the passphrase."""

    def answer(frames: Iterator[Frame]) -> Iterator[Frame]:
        login = Login("a guess", server.certificate, client=False)
        own = login.meet(next(frames).hello.share)
        yield Frame(challenge=Challenge(share=login.share))
        mac = next(frames).proof.mac
        yield Frame(proof=Proof(mac={"made up": bytes(32), "the client's own": mac, "of a guess": own}[proof]))
        with contextlib.suppress(Exception):  # of gRPC's, when the client has gone
            told.extend(frames)

    told, server = [], false_server(answer)
    with server as address:
        assert "does not know the passphrase, or changes what is sent; it is not your server" in join(
            address, Access(SECRET)
        )
        assert server.streams == 1
    assert not told, "nothing of a session before the server's proof"


def test_who_knows_the_passphrase_can_pose_as_the_server_but_where_there_is_an_authority(tmp_path: Path) -> None:
    """One of the clients, for instance; what an authority signed it has not."""

    def answer(frames: Iterator[Frame]) -> Iterator[Frame]:
        login = Login(SECRET, server.certificate, client=False)
        own = login.meet(next(frames).hello.share)
        yield Frame(challenge=Challenge(share=login.share))
        assert login.accepts(next(frames).proof.mac)
        yield Frame(proof=Proof(mac=own))
        joins.append(next(frames).join)
        yield Frame(goodbye=Goodbye(over=True, reason="posed as the server"))

    joins, authority = [], tmp_path / "ca.pem"
    authority.write_bytes(new_authority().certificate_pem())
    server = false_server(answer)
    with server as address:
        assert "was not signed by --tls-ca" in join(address, Access(SECRET, tls_ca=str(authority)))
        assert not joins
        assert join(address, Access(SECRET)) == "the run is over: posed as the server"
        assert list(joins[0].cids) == [0]


@pytest.mark.parametrize("share", [b"\4" + bytes(64), b"\4" + b"\1" * 64, b"\0", b"x" * 1000])
def test_a_server_that_sends_no_point_of_the_curve(guarded: GrpcGrid, share: bytes) -> None:
    """And a client that does: neither gets a proof of the other's."""
    proofs = []

    def answer(frames: Iterator[Frame]) -> Iterator[Frame]:
        next(frames)
        yield Frame(challenge=Challenge(share=share))
        proofs.extend(frames)

    with false_server(answer) as address:
        assert "it is not your server" in join(address, Access(SECRET))
        assert not proofs
    with Stranger(guarded.address) as stranger:
        assert stranger.hello(share).share
        assert stranger.say(proof=Proof(mac=bytes(32))).goodbye.reason.startswith("it sent a share")


def test_nothing_is_believed_before_the_servers_proof() -> None:
    """That the run is over and went well (which a client that comes back would end with), or a Welcome."""
    over = Goodbye(finished=True, over=True, reason="the run is over")
    ways = {
        "the server refused this client: the run is over": [Frame(goodbye=over)],
        "no fedkeras server of this version": [
            Frame(welcome=Welcome(run_id=1, num_partitions=1, run_config="{}", session=b"x"))
        ],
    }
    for after_share in (False, True):
        for reason, frames in ways.items():

            def answer(sent: Iterator[Frame], frames=frames, after_share=after_share) -> Iterator[Frame]:
                login = Login("a guess", b"", client=False)
                next(sent)
                if after_share:
                    yield Frame(challenge=Challenge(share=login.share))
                yield from frames

            with false_server(answer) as address:
                assert reason in join(address, Access(SECRET))


@pytest.mark.parametrize(
    ("last_words", "times"),
    [([], client_session.BROKEN_OFF), ([Frame(goodbye=Goodbye(reason="wait", again=True))], client_session.PUT_OFF)],
)
def test_logins_that_are_broken_off_end_the_client(monkeypatch, last_words: list[Frame], times: int) -> None:
    """Whoever takes a client's proof and gives none could try one guess with it, each time that it comes back."""
    monkeypatch.setattr(client_session, "LONGEST_PAUSE", 0.1)

    def answer(frames: Iterator[Frame]) -> Iterator[Frame]:
        next(frames)
        yield Frame(challenge=Challenge(share=Login("a guess", b"", client=False).share))
        next(frames)
        yield from last_words

    server = false_server(answer)
    with server as address:
        assert f"took this client's proof {times} times and gave none of its own" in join(address, Access(SECRET), 60)
        assert server.streams == times


def test_logins_broken_off_long_ago_do_not_count(monkeypatch) -> None:
    monkeypatch.setattr(client_session, "UNCONFIRMED_SECONDS", 0.0)
    monkeypatch.setattr(client_session, "LONGEST_PAUSE", 0.1)

    def answer(frames: Iterator[Frame]) -> Iterator[Frame]:
        next(frames)
        yield Frame(challenge=Challenge(share=Login("a guess", b"", client=False).share))
        next(frames)

    server = false_server(answer)
    with server as address:
        assert join(address, Access(SECRET), 1.5).startswith("no server answers at")
    assert server.streams > client_session.BROKEN_OFF


def test_a_recorded_login_is_worth_nothing(guarded: GrpcGrid) -> None:
    """The same share and the same proof, sent again: the server's share is another one."""
    with Stranger(guarded.address) as first:
        login = Login(SECRET, first.certificate, client=True)
        challenge = first.hello(login.share)
        mac = login.meet(challenge.share)
        assert login.accepts(first.say(proof=Proof(mac=mac)).proof.mac)
        assert first.say(join=Join(cids=[0])).HasField("welcome")
    until(lambda: not guarded.cids(), "its end")
    with Stranger(guarded.address) as second:
        assert second.hello(login.share).share != challenge.share
        assert second.say(proof=Proof(mac=mac)).goodbye.reason.startswith("the passphrase is wrong")


def test_who_sees_another_certificate_cannot_log_in() -> None:
    """A relay with a certificate of its own, a relay between TLS and plaintext; and both sides' proofs differ."""
    for of_client, of_server, same in (
        (b"one", b"one", True), (b"", b"", True), (b"relay", b"one", False), (b"one", b"", False), (b"", b"one", False)
    ):  # fmt: skip
        client, server = Login(SECRET, of_client, client=True), Login(SECRET, of_server, client=False)
        assert not client.accepts(b"")
        of = client.meet(server.share), server.meet(client.share)
        assert of[0] != of[1]
        assert (client.accepts(of[1]), server.accepts(of[0])) == (same, same)
        assert not client.accepts(of[0]) and not server.accepts(of[1])
    client, server = Login(SECRET, b"", client=True), Login("another", b"", client=False)
    assert not client.accepts(server.meet(client.share))
    with pytest.raises(InvalidShare):
        client.meet(b"")


@pytest.mark.parametrize("proof", [b"", b"x", bytes(32), bytes(10_000)])
def test_proofs_that_are_none(guarded: GrpcGrid, proof: bytes) -> None:
    with Stranger(guarded.address) as stranger:
        stranger.hello(Login("a guess", b"", client=True).share)
        assert "passphrase" in stranger.say(proof=Proof(mac=proof)).goodbye.reason


def test_who_gives_no_share_gave_no_passphrase(guarded: GrpcGrid) -> None:
    with Stranger(guarded.address) as stranger:
        assert stranger.hello(b"").share
        assert stranger.say(proof=Proof(mac=bytes(32))).goodbye.reason == "it gave no passphrase"
    with Stranger(guarded.address) as stranger:
        stranger.hello(b"")
        assert stranger.say(join=Join(cids=[0])).goodbye.reason == "it did not answer the challenge"


def test_an_older_version_is_refused_in_one_line(guarded: GrpcGrid) -> None:
    """Its Hello names its protocol in the same place; what else it sends is not looked at."""
    old = bytes([Frame.HELLO_FIELD_NUMBER << 3 | 2, 9]) + b"\x08\x05\x12\x050.1.0"  # protocol 5, version 0.1.0
    with Stranger(guarded.address) as stranger:
        stranger._call.cancel()  # a connection has one call at a time
        channel = stranger._channel.stream_stream(wire.METHOD)
        (answer,) = list(channel(iter([old]), timeout=60))
        reason = wire.parse(answer).goodbye.reason
        own = version("fedkeras")
        assert reason.startswith(f"it runs fedkeras 0.1.0 (protocol 5) and the server {own} (protocol 6)")

    def old_server(frames: Iterator[Frame]) -> Iterator[Frame]:
        hello = next(frames).hello
        assert (hello.protocol, hello.version) == (wire.PROTOCOL, version("fedkeras"))
        yield Frame(goodbye=Goodbye(reason=f"it runs protocol {hello.protocol}; install the same version"))

    with false_server(old_server) as address:
        assert join(address, Access(SECRET)).endswith("it runs protocol 6; install the same version")


def test_the_same_text_in_another_unicode_spelling_is_the_same_passphrase() -> None:
    assert password_of("caf\u00e9") == password_of("cafe\u0301") != password_of("cafe")
    assert handshake.SALT  # part of the protocol: what an older version would compute is another number
    assert password_of("caf\u00e9").bit_length() > 200


@pytest.mark.slow
def test_connections_that_never_say_anything_do_not_keep_others_out(guarded, start, tmp_path: Path) -> None:
    """More of them than may wait: the oldest make room, and a client that knows the passphrase joins at once."""
    strangers = [Stranger(guarded.address) for _ in range(admission.WAITING + 20)]
    try:
        until(lambda: len(guarded._service._admission) == admission.WAITING, "strangers in their handshakes")
        client = start.toy(guarded.address, 0, "--passphrase-file", secret_file(tmp_path, SECRET))
        client.said("joined")
        assert len(guarded._service._admission) <= admission.WAITING
        until(
            lambda: not len(guarded._service._admission),
            "the strangers' time to be over",
            admission.HANDSHAKE_SECONDS + 5,
        )
    finally:
        for stranger in strangers:
            stranger.__exit__()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "is empty"), (b"\n", "is empty"), (b"a\nb\n", "more than one line"), (b"\xff", "no text"),
     (b"x" * 5000, "is it the right file"), ("long enough".encode("utf-16-le"), "UTF-16 needs its mark")],
)  # fmt: skip
def test_files_that_hold_no_passphrase(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError, match=reason):
        read_passphrase(str(tmp_path / "file"))


def test_where_a_passphrase_comes_from(tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert read_passphrase("") is None
    monkeypatch.setenv(VARIABLE, "from the environment")
    assert read_passphrase("") == "from the environment"
    assert "from the" not in repr(Access("from the environment"))  # as in a log line or a traceback
    path = secret_file(tmp_path, "from the file \n")
    assert read_passphrase(str(path)) == "from the file"  # `echo` of Windows leaves a space
    for content in ("\ufeffgrün ist es".encode(), "grün ist es\r\n".encode("utf-16"), "gru\u0308n ist es".encode()):
        path.write_bytes(content)
        assert read_passphrase(str(path)) == "gr\u00fcn ist es"
    path.write_text("from the file\n")
    assert "others" not in caplog.text
    path.chmod(0o644)
    read_passphrase(str(path))
    assert "others on this machine can read" in caplog.text
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(UserError, match="the passphrase in FEDKERAS_PASSPHRASE is empty"):
        read_passphrase("")
    with pytest.raises(UserError, match="cannot read"):
        read_passphrase(str(tmp_path / "missing"))


def test_a_person_at_the_terminal_is_asked(guarded: GrpcGrid, tmp_path: Path) -> None:
    """Without echo; and may take longer to type than the server is waited for."""
    terminal = Terminal(tmp_path, HERE / "toy_client.py", guarded.address, "0", "--max-wait", 1)
    try:
        terminal.wait("passphrase for")
        time.sleep(1.2)
        terminal.answer("", SECRET)
        terminal.wait("joined")
        guarded.stop()
        assert all_ended(terminal) == [0]
        assert SECRET not in terminal.shown
    finally:
        terminal.close()
